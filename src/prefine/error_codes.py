"""The catalogue of errors: a stable code each, what it means, a message as it is printed, and what to do.

A code is never given to another error. The command line prints it behind the message; ``prefine explain CODE`` and the documentation are
drawn from this table. Codes that end in 00 are those of a whole class.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorKind:
    """One kind of error."""

    code: str
    name: str
    meaning: str
    example: str
    fix: str


GROUPS = {"E": "Any", "D": "Data", "C": "Options", "M": "Models", "F": "Files", "J": "Judges and rewards"}
"""What a code's letter stands for."""

_KINDS = (
    ErrorKind(
        "PF-E00",
        "any other mistake",
        "Something that is yours to mend and has no kind of its own.",
        "several errors were found in the options",
        "The message says what to do.",
    ),
    # ---- data
    ErrorKind(
        "PF-D00",
        "data that cannot be used",
        "A file, a row or a column holds something else than was expected.",
        "pairs.csv: the header names a column twice (prompt)",
        "Mend what the message names; prefine data show SOURCE shows how the rows are read.",
    ),
    ErrorKind(
        "PF-D01",
        "a column is missing",
        "A column that is needed is not there, or not in every row.",
        "pairs.jsonl, row 1: --map prompt=question, but there is no column 'question'; columns found: prompt, good, bad",
        "Name the columns that hold it: --map prompt=question chosen=good rejected=bad.",
    ),
    ErrorKind(
        "PF-D02",
        "unknown or ambiguous format",
        "The file's type or the rows' format is none that is read, or the rows change from one format to another.",
        "pairs.docx: unknown file type '.docx'; expected one of .jsonl, .json, .csv, .tsv, .parquet (also .gz)",
        "Convert the file, or name its format with --format; the documentation lists the formats.",
    ),
    ErrorKind(
        "PF-D03",
        "the source is empty",
        "A file or dataset has no rows at all.",
        "pairs.jsonl: empty, no rows to read",
        "Look whether the file was written or downloaded to its end, and whether a filter left nothing.",
    ),
    ErrorKind(
        "PF-D04",
        "no row is left",
        "There are rows, but every one of them was dropped: the responses are equal, empty, or equal once truncated.",
        "pairs.jsonl: none of its 2 rows gives a usable pair (2 chosen equals rejected)",
        "The message counts the reasons. Truncated: raise max_length. Equal: the data prefers nothing. prefine data audit says more.",
    ),
    ErrorKind(
        "PF-D05",
        "not valid JSON",
        "A line is no JSON, or holds no object with named fields.",
        'pairs.jsonl, line 1: not valid JSON (Expecting \',\' delimiter at column 30); it begins \'{"prompt": "a", "chosen": "b"\'',
        "Mend the line; a file that ends in the middle of one was not written or downloaded whole.",
    ),
    ErrorKind(
        "PF-D06",
        "not UTF-8 text",
        "A file holds bytes that are no UTF-8.",
        "prompts.txt: not UTF-8 text (invalid start byte at byte 0); convert it with iconv",
        "iconv -f LATIN1 -t UTF-8 FILE, with the encoding that it was written in.",
    ),
    ErrorKind(
        "PF-D08",
        "which split or configuration",
        "A folder or dataset holds several splits or configurations, or not the one that was asked for.",
        "data: no split 'trian'; did you mean 'train'?; it holds train, test",
        "Name one behind the source: data:train.",
    ),
    ErrorKind(
        "PF-D09",
        "single responses, not pairs",
        "The rows are single responses with a label, and pairs are needed.",
        "kto.jsonl: holds single labelled responses, not pairs; train on them as they are (prefine kto), or make pairs of those "
        "that share a prompt: prefine data convert kto.jsonl pairs.jsonl --to pairs",
        "Make pairs of them by the command that the message gives.",
    ),
    # ---- options
    ErrorKind(
        "PF-C00",
        "options that do not fit",
        "Options contradict each other, or ask for what cannot be.",
        "--load-in-4bit trains an adapter on a frozen base: give --lora-r 16, say",
        "The message says which option to give or to leave out.",
    ),
    ErrorKind(
        "PF-C01",
        "unknown option",
        "An option, a key of a YAML file or a keyword does not exist.",
        "unknown option --learnin-rate; did you mean --learning-rate?",
        "Give the name that the message proposes; --help-all lists all.",
    ),
    ErrorKind(
        "PF-C02",
        "a value of another type",
        "An option's value is no number, no list, or no value of the kind that it takes.",
        "--learning-rate: 'fast' is not a number",
        "Give a value of the kind that the message names.",
    ),
    ErrorKind(
        "PF-C03",
        "a value out of range",
        "An option's value is of the right type, and not one of those that it may have.",
        "--lora-r is 0; expected at least 1",
        "Give a value that the message names.",
    ),
    ErrorKind(
        "PF-C04",
        "an option would be ignored",
        "Beside the other options nothing would read this one. It is refused, so that nobody believes it had an effect.",
        "--lora-alpha would be ignored without --lora-r; give --lora-r 16, say",
        "Leave it out, or give the option that it belongs to.",
    ),
    ErrorKind(
        "PF-C05",
        "the output is there already",
        "The output folder holds a run that began, or anything else; nothing is overwritten.",
        "output_dir run already holds a run; go on with --resume, or give another --output-dir",
        "--resume goes on with it; another --output-dir begins anew.",
    ),
    ErrorKind(
        "PF-C06",
        "what is resumed differs",
        "Options or data are not those that the run began with, and going on would make another run of it.",
        "--resume goes on with the run as it was, but learning_rate was 0.001 and is now 0.1; give what it had, or another --output-dir",
        "Give the options of the run's config.yaml, or another --output-dir.",
    ),
    ErrorKind(
        "PF-C07",
        "a required option is missing",
        "The command cannot begin without it.",
        "--data is missing (File, folder, Hub id or database with preference pairs)",
        "Give it; --help says what it may be.",
    ),
    ErrorKind(
        "PF-C08",
        "a library refuses an option",
        "transformers, accelerate, PEFT or an optional package refuses what an option asks for.",
        "an option is refused (--optim adamw): 'adamw' is not a valid OptimizerNames (--traceback shows where)",
        "The library's own words are in the message.",
    ),
    ErrorKind(
        "PF-C09",
        "unknown command",
        "There is no such command.",
        "no command 'dop'; did you mean 'dpo'? Commands: data, dpo, sft",
        "prefine --help lists the commands.",
    ),
    ErrorKind(
        "PF-C10",
        "a package or hardware is missing",
        "An option needs a package that is not installed, or a GPU that is not there.",
        "load_in_4bit needs bitsandbytes: pip install 'prefine[qlora]'",
        "Install what the message names, or leave the option out.",
    ),
    ErrorKind(
        "PF-C13",
        "a run directory that another process trains in",
        "Two processes in one folder would mix their logs and overwrite each other's checkpoints.",
        "runs/first is being trained in by another process (process 4711 on node1); wait until that ends, stop it, or give "
        "another --output-dir",
        "Wait, stop the other, or give another --output-dir.",
    ),
    ErrorKind(
        "PF-C14",
        "a run that cannot fit",
        "The plan of the run needs more memory than the machine has, even in the smallest pieces.",
        "this needs about 320.0 GiB even with one prompt a pack, and t4 has 16.0; give --lora-r 16 --load-in-4bit; prefine plan shows "
        "more, and --ignore-plan starts all the same",
        "Take the settings that it names, or those of prefine plan.",
    ),
    ErrorKind(
        "PF-C12",
        "a configuration file that cannot be read",
        "A --config file is no YAML, or not made of keys with values.",
        "run.yaml: expected 'key: value' lines, found list",
        "prefine COMMAND --print-config prints a file to start from.",
    ),
    # ---- models
    ErrorKind(
        "PF-M00",
        "a model that does not fit",
        "A model, a tokenizer or an adapter cannot be used as asked.",
        "the model already has an adapter and peft_config asks for another; give one of the two",
        "The message says what does not fit.",
    ),
    ErrorKind(
        "PF-M01",
        "no chat template",
        "A chat template is to be taken from a tokenizer that has none.",
        "chat_template_path models/base: its tokenizer has no chat template",
        "Give a model or a file that has one, or set tokenizer.chat_template and save it.",
    ),
    ErrorKind(
        "PF-M02",
        "no tokenizer",
        "A model's folder has no tokenizer, or one that cannot be loaded.",
        "models/base: its tokenizer is empty; save the real one there with tokenizer.save_pretrained",
        "Save the tokenizer beside the model.",
    ),
    ErrorKind(
        "PF-M03",
        "vocabulary larger than the embeddings",
        "The tokenizer has tokens that the model has no embedding of: it would fail, or read another token's.",
        "models/base: its tokenizer has 1001 tokens ('<tool>' is id 1000), and the model has embeddings of 1000: give the tokenizer that "
        "belongs to the model, or call model.resize_token_embeddings(len(tokenizer)) and save both",
        "Give the tokenizer that belongs to the model, or resize the embeddings and save both.",
    ),
    ErrorKind(
        "PF-M04",
        "an adapter of another base",
        "An adapter's base is gone, not named, or another than the one that it is put on.",
        "runs/dpo/model: an adapter that names no base; put it back, or write its place into runs/dpo/model/adapter_config.json "
        "(base_model_name_or_path)",
        "Put the base back, or write its place into adapter_config.json.",
    ),
    ErrorKind(
        "PF-M05",
        "a model that cannot be loaded",
        "A folder is no model, or another library could not load it: an encoder, a vision model, damaged weights, a gated Hub id.",
        "models/bert: could not be loaded as a causal language model: Unrecognized configuration class",
        "Give a causal language model. Gated on the Hub: accept its licence there, then hf auth login.",
    ),
    ErrorKind(
        "PF-M06",
        "no language-model head",
        "A model in memory has no head that predicts tokens: an encoder, a bare trunk.",
        "BertModel has no language-model head; give a causal language model",
        "Load it with AutoModelForCausalLM.",
    ),
    ErrorKind(
        "PF-M07",
        "out of memory with a single row",
        "Everything was made smaller until a single row stood alone, and it does not fit.",
        "out of memory with row 12 alone, a single prompt of 4096 tokens with its responses; lower max_length, switch "
        "gradient_checkpointing on, or train with LoRA or in 4-bit",
        "Lower max_length, switch gradient_checkpointing on, train with LoRA or in 4-bit. The last complete checkpoint stays.",
    ),
    ErrorKind(
        "PF-M08",
        "out of memory",
        "Memory ran out in something that cannot be made smaller: the weights themselves, the optimizer's moments, a worker process.",
        "out of memory in the step of AdamW with a single parameter of shape (32000, 4096); give --optim adamw_8bit or adafactor, or train "
        "with LoRA; the last complete checkpoint stays, and --resume goes on from it",
        "Load the model in bfloat16 or 4-bit, train with LoRA, take an optimizer with smaller moments, or a smaller model.",
    ),
    ErrorKind(
        "PF-M09",
        "not a reward model",
        "A reward model is a classifier with one label and a head named score.",
        "a classifier of 3 labels; reward models require `num_labels=1`",
        "Train one with prefine reward.",
    ),
    ErrorKind(
        "PF-M10",
        "a reference that does not match",
        "Policy and reference have other vocabularies, or do not agree at step 0, so their log-probs cannot be compared.",
        "the reference has 50257 token embeddings, the policy 32000: their log-probs cannot be compared; give a reference with the "
        "policy's tokenizer, or leave it out to use the policy's start",
        "Leave the reference out: it is then the policy's own start.",
    ),
    ErrorKind(
        "PF-M11",
        "sampler and trainer disagree",
        "What is learned from was drawn from another policy than the one that is trained.",
        "rollout 3: sampler and trainer disagree by 0.4 nats/token, 0.001 is this dtype's noise; the model samples otherwise than it is "
        "trained (dropout, another cache, generation settings, an adapter of before)",
        "Switch dropout off (disable_dropout) and leave generation settings of your own out.",
    ),
    ErrorKind(
        "PF-M12",
        "packs are not exact for this model",
        "Log-probs of packs differ from those of plain forwards in every layout: training on them would be wrong.",
        "OddForCausalLM: packed log-probs differ from plain forwards in every layout ({'padded': 0.3}); log-probs differ by 3.0e-01",
        "Update transformers; where it stays, report the architecture with prefine env.",
    ),
    ErrorKind(
        "PF-M13",
        "probabilities that are not numbers",
        "The model's logits are NaN or infinite: it diverged, or float16 overflows.",
        "the model's next-token probabilities are not numbers: it diverged, or its dtype overflows",
        "Use bfloat16 or float32; lower the learning rate, and go on from an earlier checkpoint.",
    ),
    ErrorKind(
        "PF-M18",
        "training that diverged",
        "Updates have no finite gradient any more, or the weights are no finite numbers.",
        "the weights are not finite numbers any more, so no model is saved; lower the learning rate, and begin anew",
        "Lower the learning rate to a tenth, or give --guard act; prefine doctor RUN says when it began.",
    ),
    ErrorKind(
        "PF-M19",
        "nothing to train",
        "No weight requires a gradient.",
        "no weight requires a gradient, so nothing would be trained; unfreeze the model, or give an adapter",
        "Unfreeze the model, or give --lora-r 16.",
    ),
    ErrorKind(
        "PF-M20",
        "a width that 4-bit does not take",
        "On a CPU, bitsandbytes multiplies by rows of whole blocks of 64 weights.",
        "models/tiny: model.layers.0.self_attn.q_proj is 96 wide, and 4-bit on a CPU takes multiples of 64; leave load_in_4bit out",
        "Leave load_in_4bit out.",
    ),
    ErrorKind(
        "PF-M14",
        "no EOS token",
        "The tokenizer has no token that ends a response.",
        "models/base: its tokenizer has no end-of-sequence token; set tokenizer.eos_token and save it again",
        "Set tokenizer.eos_token and save it again.",
    ),
    ErrorKind(
        "PF-M15",
        "nothing to learn from",
        "No sampled response has a score, or all score alike.",
        "not one sampled response has a score: every reward failed or is not a number",
        "Look at the warnings before it: they say what the reward function raised. Else raise num_samples or temperature.",
    ),
    ErrorKind(
        "PF-M16",
        "a merge that is not equal",
        "The merged model says something else than base and adapter.",
        "runs/dpo/model: merged log-probs differ from base and adapter's by 0.3 nats; merge in --dtype float32",
        "Merge in --dtype float32.",
    ),
    ErrorKind(
        "PF-M17",
        "longer than the model's positions",
        "A row has more tokens than the model has positions.",
        "train_dataset, row 3: 2100 tokens, and the model has 2048 positions; give --max-length 2048 (max_length) or less",
        "Give the --max-length that the message names.",
    ),
    # ---- files
    ErrorKind(
        "PF-F00",
        "no such file",
        "A path does not exist.",
        "nothere.jsonl: no such file or folder; that folder holds: pairs.jsonl",
        "Look at the path; a Hub id is owner/name.",
    ),
    ErrorKind(
        "PF-F01",
        "not a run directory",
        "A folder is no run of a training command.",
        "runs/dop: not a run directory (no config.yaml); give the --output-dir of a training run",
        "Give the --output-dir of a training run.",
    ),
    ErrorKind(
        "PF-F02",
        "no such model folder",
        "A model's folder does not exist.",
        "./modle: no such model folder; did you mean 'model'?",
        "Look at the path; a Hub id is owner/name.",
    ),
    ErrorKind(
        "PF-F03",
        "the Hub cannot be reached, or refuses",
        "A name is no local path, and the Hub does not give it: no network, a private or gated repository, a name that is not there.",
        "owner/pairs: no such file here, and loading it from the Hub failed (ConnectionError: offline); check the name, the split and the "
        "network",
        "Check the name and the network; private or gated: hf auth login.",
    ),
    ErrorKind(
        "PF-F04",
        "a run without a model",
        "A run has not finished, or its config names no base.",
        "runs/dpo: no model there yet; let training finish, or go on with --resume",
        "Let training finish, or go on with --resume.",
    ),
    ErrorKind(
        "PF-F05",
        "the system refuses a file",
        "The disk is full, a folder is read-only, or there is no permission.",
        "/mnt/full/run/config.yaml: No space left on device",
        "Make room or give another folder; a run goes on with --resume from its last complete checkpoint.",
    ),
    ErrorKind(
        "PF-F06",
        "the disk takes no more",
        "The disk is full or read-only, or a quota is used up, before training or while something is saved.",
        "the checkpoint of step 40 in runs/first/checkpoints could not be written: no space left on the disk",
        "Make room, or give another --output-dir; what was saved before is kept, and --resume goes on from it.",
    ),
    ErrorKind(
        "PF-F07",
        "a damaged checkpoint",
        "A checkpoint's files are not those that its manifest lists, or hold something else than a trainer wrote.",
        "runs/first/checkpoints/checkpoint-40: the checkpoint is damaged: optimizer.pt was altered; resume from another",
        "Resume from an older checkpoint; --resume finds the newest whole one by itself.",
    ),
    # ---- judges and rewards
    ErrorKind(
        "PF-J01",
        "a judge that cannot be reached",
        "Nothing responds at the judge's address.",
        "http://127.0.0.1:8000/v1: cannot be reached (Connection refused)",
        "Start the server, or mend --server; what was judged is kept.",
    ),
    ErrorKind(
        "PF-J02",
        "a judge's key is missing",
        "No server is given, and the environment variable that holds the key is not set.",
        "no server given, and no key in OPENAI_API_KEY: set it, or give --server URL",
        "Set the variable, or give --server or --key-variable.",
    ),
    ErrorKind(
        "PF-J03",
        "a judge's key is refused",
        "The server does not accept the key.",
        "http://127.0.0.1:8000/v1: the key is not accepted (401)",
        "Set the right key in the variable that --key-variable names.",
    ),
    ErrorKind(
        "PF-J04",
        "no such judging model",
        "The server has no model of that name, or the address is another's.",
        "http://127.0.0.1:8000/v1: no model 'gpt' there, or no such address (404)",
        "Give the name that the server lists; most addresses end in /v1.",
    ),
    ErrorKind(
        "PF-J05",
        "a reward function that does not score each response",
        "A reward function gives a list of another length than the responses it was given.",
        "the reward function gave 1 scores for 4 responses; expected one each",
        "Return one number for each response, None where there is none.",
    ),
    ErrorKind(
        "PF-J06",
        "not a judge or reward",
        "What is given as a judge or reward is neither a name, a model nor a function.",
        "a reward is a folder, a classifier, a judge or a function, not int",
        "Give one of these.",
    ),
)
KINDS = {kind.code: kind for kind in _KINDS}
"""All kinds by their code."""
