"""Trainers on packs: DPO's family and SFT."""
