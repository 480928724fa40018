/**
 * The script of the page, as text: filters, sorting, the table, and what a cell says. It runs in a browser, knows the JSON
 * of json.ts and nothing else, and writes what it read from it as text nodes only.
 */

export const PAGE_SCRIPT = `(() => {
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const byId = (id) => document.getElementById(id);
const PROTOCOLS = ['TCP', 'UDP', 'SCTP', 'ICMP'];
/** More rows or columns than this are not drawn at once. */
const MOST = 250;
const KIND_ORDER = { workload: 0, service: 1, nodes: 2, outside: 3 };
const { peers, cells, matrix } = data;
let kept = null;

const isReached = ({ verdict }) => verdict === 'delivered' || verdict === 'forwarded';
const describePolicy = (i) => {
  const { kind, namespace, name } = data.policies[i];
  return kind + ' ' + (namespace === '' ? '' : namespace + '/') + name;
};

// ---- cells ------------------------------------------------------------------------------------------------------

/** 'all', 'some', 'part', 'none', 'deny' or 'self' for the rows that a port filter leaves. */
function judge(rows, isService) {
  if (rows.length === 0) return 'self';
  let open = false, closed = false, mixed = false, denied = false;
  for (const { outcomes } of rows) {
    let some = false, others = false;
    for (const outcome of outcomes) {
      if (isReached(outcome)) some = true;
      else others = true;
      if (outcome.partly) mixed = true;
      if (outcome.denied) denied = true;
    }
    if (some && others) mixed = true;
    if (some) open = true;
    if (others) closed = true;
  }
  if (mixed) return 'part';
  if (!open) return denied ? 'deny' : 'none';
  return closed ? 'some' : 'all';
}

let portFilter = [];
let judged = [];
function readPorts(text) {
  const filters = [];
  for (const part of text.split(/[\\s,]+/)) {
    const match = /^(?:(\\d{1,5})(?:-(\\d{1,5}))?)?\\/?([a-z]*)$/i.exec(part);
    if (part === '' || match === null) continue;
    const protocol = match[3] === '' ? null : PROTOCOLS.find((own) => own.startsWith(match[3].toUpperCase()));
    if (protocol === undefined) continue;
    const first = match[1] === undefined ? 0 : Number(match[1]);
    const last = match[1] === undefined ? 65535 : Number(match[2] ?? match[1]);
    filters.push({ protocol, first, last });
  }
  return filters;
}
function rowsOf(cell) {
  if (portFilter.length === 0) return cells[cell];
  return cells[cell].filter((row) => portFilter.some(({ protocol, first, last }) =>
    (protocol === null ? row.protocol !== 'ICMP' : row.protocol === protocol) && row.first <= last && first <= row.last));
}
function judgeCell(cell, isService) {
  if (cell < 0) return 'off';
  const at = cell * 2 + (isService ? 1 : 0);
  return judged[at] ??= portFilter.length > 0 && cells[cell].length > 0 && rowsOf(cell).length === 0 ? 'off' : judge(rowsOf(cell), isService);
}

// ---- filters ----------------------------------------------------------------------------------------------------

const wanted = () => ({
  from: byId('from').value.trim().toLowerCase(),
  to: byId('to').value.trim().toLowerCase(),
  namespace: byId('namespace').value,
  show: byId('show').value,
  sort: byId('sort').value,
  services: byId('services').checked,
  pods: byId('pods').checked,
  outer: byId('outer').checked,
});
const matches = (peer, text) => text === '' || text.split(/\\s+/).every((word) => peer.id.toLowerCase().includes(word));
const isShown = (peer, { services, pods, outer }) =>
  peer.kind === 'service' ? services : peer.kind === 'workload' ? pods : outer;
const SHOWS = {
  all: () => true,
  open: (kind) => kind === 'all' || kind === 'some' || kind === 'part',
  closed: (kind) => kind === 'none' || kind === 'deny',
  mixed: (kind) => kind === 'some' || kind === 'part',
  denied: (kind) => kind === 'deny',
};

function select() {
  const asked = wanted();
  portFilter = readPorts(byId('port').value);
  judged = [];
  const shows = SHOWS[asked.show];
  let rows = data.sources.map((peer, at) => ({ at, peer: peers[peer] }))
    .filter(({ peer }) => matches(peer, asked.from) && (peer.kind === 'workload' || asked.outer));
  let columns = data.targets.map((peer, at) => ({ at, peer: peers[peer] }))
    .filter(({ peer }) => matches(peer, asked.to) && isShown(peer, asked));
  const inNamespace = ({ peer }) => asked.namespace === '' || peer.namespace === asked.namespace;
  const pairShown = (row, column) => inNamespace(row) || inNamespace(column);
  const kindOf = (row, column) => {
    if (!pairShown(row, column)) return 'off';
    const kind = judgeCell(matrix[row.at][column.at], column.peer.kind === 'service');
    return shows(kind) ? kind : 'off';
  };
  const narrow = asked.namespace !== '' || asked.show !== 'all' || portFilter.length > 0;
  if (narrow) {
    const isUsed = (kind) => kind !== 'off' && kind !== 'self';
    rows = rows.filter((row) => columns.some((column) => isUsed(kindOf(row, column))));
    columns = columns.filter((column) => rows.some((row) => isUsed(kindOf(row, column))));
  }
  if (asked.sort === 'out') {
    const weight = { all: 3, some: 2, part: 2 };
    const sum = (list, of) => list.reduce((total, other) => total + (weight[of(other)] ?? 0), 0);
    for (const row of rows) row.weight = sum(columns, (column) => kindOf(row, column));
    for (const column of columns) column.weight = sum(rows, (row) => kindOf(row, column));
    rows.sort((a, b) => b.weight - a.weight);
    columns.sort((a, b) => b.weight - a.weight);
  } else {
    columns.sort((a, b) => KIND_ORDER[a.peer.kind] - KIND_ORDER[b.peer.kind] || a.at - b.at);
  }
  return { rows, columns, kindOf };
}

// ---- the table --------------------------------------------------------------------------------------------------

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
const nameOf = (peer) => peer.id;

function draw() {
  const { rows, columns, kindOf } = select();
  const shownRows = rows.slice(0, MOST);
  const shownColumns = columns.slice(0, MOST);
  const note = [];
  if (rows.length > MOST || columns.length > MOST) {
    note.push('Showing ' + shownRows.length + ' of ' + rows.length + ' sources and ' + shownColumns.length + ' of ' + columns.length + ' targets: narrow the filters to see the others.');
  } else if (rows.length === 0 || columns.length === 0) note.push('Nothing fits the filters.');
  byId('note').textContent = note.join(' ');
  const head = element('tr');
  head.append(element('th', 'corner', 'from ↓ to →'));
  const isBand = (list, i) => i > 0 && (list[i].peer.kind !== list[i - 1].peer.kind || list[i].peer.namespace !== list[i - 1].peer.namespace);
  shownColumns.forEach((column, i) => {
    const cell = element('th', isBand(shownColumns, i) ? 'band' : '');
    cell.scope = 'col';
    cell.title = nameOf(column.peer);
    const box = element('div');
    box.append(element('span', '', nameOf(column.peer)));
    cell.append(box);
    head.append(cell);
  });
  const body = document.createDocumentFragment();
  shownRows.forEach((row, r) => {
    const line = element('tr', isBand(shownRows, r) ? 'space' : '');
    const name = element('th', '', nameOf(row.peer));
    name.scope = 'row';
    name.title = nameOf(row.peer) + (row.peer.members.length > 1 ? ' (' + row.peer.members.length + ')' : '');
    line.append(name);
    shownColumns.forEach((column, c) => {
      const kind = kindOf(row, column);
      const cell = element('td', kind + (isBand(shownColumns, c) ? ' band' : ''));
      cell.tabIndex = r === 0 && c === 0 ? 0 : -1;
      cell.setAttribute('aria-label', nameOf(row.peer) + ' to ' + nameOf(column.peer) + ': ' + kind);
      cell.append(element('i'));
      line.append(cell);
    });
    body.append(line);
  });
  const table = byId('matrix');
  const thead = element('thead');
  thead.append(head);
  const tbody = element('tbody');
  tbody.append(body);
  table.replaceChildren(thead, tbody);
  drawn = { rows: shownRows, columns: shownColumns };
  kept = null;
}
let drawn = { rows: [], columns: [] };

// ---- one cell ---------------------------------------------------------------------------------------------------

function placeOf(target) {
  const cell = target.closest?.('td');
  if (!cell || !byId('matrix').contains(cell)) return null;
  return { cell, r: cell.parentNode.rowIndex - 1, c: cell.cellIndex - 1 };
}
function highlight(place) {
  for (const old of byId('matrix').querySelectorAll('.hot')) old.classList.remove('hot');
  if (place === null) return;
  place.cell.parentNode.cells[0].classList.add('hot');
  byId('matrix').tHead.rows[0].cells[place.c + 1].classList.add('hot');
}
const ports = ({ protocol, first, last }) =>
  protocol === 'ICMP' ? 'ICMP' : protocol + ' ' + (first <= 1 && last === 65535 ? 'all' : first === last ? first : first + '–' + last);

function describeOutcome(outcome, source, target) {
  const words = [outcome.verdict];
  if (outcome.reason !== 'none') words.push('(' + outcome.reason + ')');
  if (outcome.pairs !== undefined) words.push('for ' + outcome.pairs);
  if (outcome.partly) words.push('at some backends');
  if (outcome.denied && outcome.policy !== undefined) words.push('by ' + describePolicy(outcome.policy) + ' ' + outcome.field);
  else if (outcome.denied) words.push('by ' + outcome.denied + ' isolation' + isolation(outcome.denied === 'egress' ? source : target, outcome.denied));
  return words.join(' ');
}
function isolation(peer, direction) {
  const own = peer.kind === 'service' ? peer.ports.flatMap(({ leadsTo }) => leadsTo.flatMap((end) => byName.get(end.peer)?.isolatedBy[direction] ?? [])) : peer.isolatedBy[direction];
  const names = [...new Set(own)].map(describePolicy);
  if (names.length === 0) return '';
  return ': ' + names.slice(0, 4).join(', ') + (names.length > 4 ? ' and ' + (names.length - 4) + ' more' : '');
}
const byName = new Map(peers.map((peer) => [peer.id, peer]));

function tell(place) {
  const source = drawn.rows[place.r];
  const target = drawn.columns[place.c];
  const box = byId('detail');
  const title = element('h2', '', nameOf(source.peer) + ' → ' + nameOf(target.peer));
  const parts = [title];
  const cell = matrix[source.at][target.at];
  const rows = cell < 0 ? [] : rowsOf(cell);
  if (cell < 0) parts.push(element('p', 'hint', 'Left out by the filter that made this page.'));
  else if (rows.length === 0) parts.push(element('p', 'hint', 'There is no pair or port to try: a pod alone always reaches itself.'));
  else {
    // Ports that fare alike are one line.
    const alike = new Map();
    for (const row of rows) {
      const label = ports(row) + (row.via && row.via !== 'ClusterIP' ? ' at its ' + row.via : '') + (row.family ? ' IPv' + row.family : '');
      const said = row.outcomes.map((outcome) => [isReached(outcome), describeOutcome(outcome, source.peer, target.peer)]);
      const key = said.join();
      if (!alike.has(key)) alike.set(key, { labels: [], said });
      alike.get(key).labels.push(label);
    }
    const table = element('table');
    for (const { labels, said } of alike.values()) {
      const line = element('tr');
      const isWhole = labels.length === 4 && labels.slice(0, 3).every((label) => label.endsWith(' all'));
      line.append(element('th', '', isWhole ? 'all ports' : labels.join(', ')));
      const cell = element('td');
      for (const [isOpen, text] of said) cell.append(element('div', isOpen ? 'ok' : 'no', text));
      line.append(cell);
      table.append(line);
    }
    parts.push(table);
  }
  if (target.peer.ports.length > 0) {
    parts.push(element('h3', '', 'The Service leads to'));
    const list = element('ul');
    for (const port of target.peer.ports) {
      const ends = port.leadsTo.map((end) => end.peer + ':' + end.port + (end.endpoints > 1 ? ' (' + end.endpoints + ')' : ''));
      list.append(element('li', '', port.protocol + ' ' + port.port + (port.nodePort === null ? '' : ', nodePort ' + port.nodePort) + ' → ' + (ends.join(', ') || 'nothing')));
    }
    parts.push(list);
  }
  for (const [peer, direction] of [[source.peer, 'egress'], [target.peer, 'ingress']]) {
    if (peer.isolatedBy[direction].length === 0) continue;
    parts.push(element('h3', '', nameOf(peer) + ': ' + direction + ' isolated by'));
    const list = element('ul');
    for (const i of peer.isolatedBy[direction]) list.append(element('li', '', describePolicy(i)));
    parts.push(list);
  }
  if (source.peer.members.length > 1 && source.peer.kind !== 'outside') parts.push(element('p', 'hint', source.peer.members.length + (source.peer.kind === 'nodes' ? ' nodes' : ' pods') + ' send: ' + source.peer.members.slice(0, 6).join(', ') + (source.peer.members.length > 6 ? ' …' : '')));
  box.replaceChildren(...parts);
}

function show(place, keep) {
  highlight(place);
  tell(place);
  if (!keep) return;
  kept?.classList.remove('kept');
  kept = place.cell;
  kept.classList.add('kept');
}

// ---- events -----------------------------------------------------------------------------------------------------

const table = byId('matrix');
table.addEventListener('mouseover', ({ target }) => {
  const place = placeOf(target);
  if (place !== null && kept === null) show(place, false);
});
table.addEventListener('click', ({ target }) => {
  const place = placeOf(target);
  if (place === null) return;
  if (place.cell === kept) {
    kept.classList.remove('kept');
    kept = null;
  } else show(place, true);
});
table.addEventListener('focusin', ({ target }) => {
  const place = placeOf(target);
  if (place !== null && kept === null) show(place, false);
});
table.addEventListener('keydown', (event) => {
  const place = placeOf(event.target);
  if (place === null) return;
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (event.key === 'Enter' || event.key === ' ') place.cell.click();
  else if (step === undefined) return;
  else {
    const next = table.tBodies[0].rows[place.r + step[0]]?.cells[place.c + step[1] + 1];
    if (next?.tagName === 'TD') {
      place.cell.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
  }
  event.preventDefault();
});
byId('filters').addEventListener('submit', (event) => event.preventDefault());
let timer = 0;
byId('filters').addEventListener('input', () => {
  clearTimeout(timer);
  timer = setTimeout(draw, 60);
});

const { counts } = data;
byId('about').textContent = 'mode ' + data.mode + ', profile ' + data.profile + ': ' + counts.pods + ' pods, ' + counts.nodes +
  ' nodes, ' + counts.services + ' Services, ' + counts.policies + ' policies; ' + counts.packets + ' packets run';
const namespaces = [...new Set(peers.map((peer) => peer.namespace).filter((name) => name !== ''))].sort();
byId('namespace').append(new Option('all', ''), ...namespaces.map((name) => new Option(name, name)));
draw();
})();
`;
