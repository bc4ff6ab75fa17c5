// Draws the charts, says their values on hover and on keyboard focus, and filters responses.
// Texts of models reach the page by textContent alone, never as markup.
(() => {
  'use strict';

  // ---- the box that says a value

  const box = document.createElement('div');
  box.id = 'value';
  box.setAttribute('role', 'status');
  document.body.append(box);

  let held = null;  // the mark that the keyboard is at
  const hide = () => { box.className = ''; held = null; };
  const place = (x, y) => {
    const wide = document.documentElement.clientWidth, own = box.getBoundingClientRect();
    box.style.left = Math.max(4, Math.min(x + 12, wide - own.width - 4)) + 'px';
    box.style.top = Math.max(4, y - own.height - 12) + 'px';
  };
  const placeAt = mark => { const at = mark.getBoundingClientRect(); place(at.left + at.width / 2, at.top); };
  const say = value => {
    box.textContent = '';
    const pairs = value !== null && typeof value === 'object' ? Object.entries(value) : [['', value]];
    for (const [name, text] of pairs) {
      if (text === '' || text === null || text === undefined || text === 'null') continue;
      const line = document.createElement('div');
      line.textContent = name ? name + ': ' + text : String(text);
      box.append(line);
    }
    box.className = 'shown';
  };

  // ---- charts

  const drawn = new WeakSet();
  const draw = async figure => {
    const host = figure.querySelector('.chart');
    if (drawn.has(figure) || !host.clientWidth) return;
    drawn.add(figure);
    const spec = JSON.parse(figure.querySelector('script.spec').textContent);
    host.style.minHeight = spec.height + 'px';
    // The page's policy forbids eval: expressions are interpreted. Styles are the page's own.
    await vegaEmbed(host, spec, {
      ast: true, actions: false, defaultStyle: false, renderer: 'svg',
      tooltip: (handler, event, item, value) => { value ? (say(value), place(event.clientX, event.clientY)) : hide(); },
    });
    host.style.minHeight = '';
    walk(host);
  };

  // Arrow keys go from mark to mark, left to right.
  const walk = host => {
    const marks = () => [...host.querySelectorAll('svg path, svg rect')]
      .filter(m => m.__data__ && m.__data__.tooltip)
      .map(m => ({ m, at: m.getBoundingClientRect() }))
      .sort((a, b) => a.at.left - b.at.left || a.at.top - b.at.top);
    let now = -1;
    const leave = () => { host.querySelectorAll('.now').forEach(m => m.classList.remove('now')); hide(); };
    const go = to => {
      const all = marks();
      if (!all.length) return;
      leave();
      now = Math.max(0, Math.min(to, all.length - 1));
      held = all[now].m;
      held.classList.add('now');
      say(held.__data__.tooltip);
      placeAt(held);
    };
    host.addEventListener('keydown', e => {
      const to = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: Infinity }[e.key];
      if (e.key === 'Escape') return leave();
      if (to === undefined) return;
      e.preventDefault();
      go(to);
    });
    host.addEventListener('focus', () => { if (host.matches(':focus-visible')) go(Math.max(0, now)); });
    host.addEventListener('blur', leave);
  };

  const drawAll = async () => { for (const f of document.querySelectorAll('figure.chart-figure')) await draw(f); };
  document.addEventListener('toggle', drawAll, true);  // charts in what was closed
  addEventListener('scroll', () => { held ? placeAt(held) : hide(); }, { passive: true });
  drawAll().then(() => { document.documentElement.dataset.drawn = 'true'; });

  // ---- responses

  const form = document.querySelector('form.filter');
  if (!form) return;
  form.hidden = false;
  const rows = [...document.querySelectorAll('article.response')];
  const [text, verdict, category] = ['text', 'verdict', 'category'].map(n => form.elements[n]);
  const count = form.querySelector('output'), more = document.querySelector('p.more');
  const words = new Map();
  const said = r => { if (!words.has(r)) words.set(r, r.textContent.toLowerCase()); return words.get(r); };
  let most = Number(form.dataset.atFirst), timer;
  const apply = () => {
    const sought = text.value.toLowerCase().trim();
    let kept = 0;
    for (const r of rows) {
      const keep = (!verdict.value || r.dataset.verdict === verdict.value)
        && (!category || !category.value || r.dataset.category === category.value)
        && (!sought || said(r).includes(sought));
      kept += keep;
      r.hidden = !keep || kept > most;
    }
    count.textContent = kept + ' of ' + rows.length + ' responses';
    more.hidden = kept <= most;
    more.firstElementChild.textContent = 'Show all ' + kept + ' responses';
  };
  more.addEventListener('click', () => { most = Infinity; apply(); });
  form.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(apply, 120); });
  form.addEventListener('submit', e => e.preventDefault());
  apply();
})();
