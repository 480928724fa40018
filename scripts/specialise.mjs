/**
 * Partial evaluation of a bundled module: functions that are called with a constant object of the module get a copy in
 * which that parameter is the constant.
 *
 * V8 folds what it reads through a constant: a lane of the thread's burst becomes an address and a length in the machine
 * code, where a lane of a burst that came as a parameter costs a check of two shapes, three loads and a bounds check
 * each time. The sources stay as they are, with the burst as a parameter, and so do the functions' general versions,
 * for bursts other than the thread's.
 *
 * Understands what the engine's sources use: top-level function declarations, plain parameters, calls by name, and
 * `const x = <the constant>` as another name for it. Refuses a function that declares the parameter's name again.
 */
import { parseSync } from 'rolldown/utils';

/**
 * @param {string} code a module whose top level declares the constants, as `const name = …`
 * @param {readonly string[]} constants
 * @param {Readonly<Record<string, string>>} members constants that are fields of others, as `{'station.dp': 'datapath'}`
 * @returns {{ code: string, copies: number }} the module with its copies at the end, and how many there are
 */
export function specialise(code, constants, members) {
  const { program, errors } = parseSync('chunk.js', code);
  if (errors.length > 0) throw new Error(`the bundle does not parse: ${errors[0].message}`);
  const functions = new Map();
  for (const node of program.body) {
    if (node.type === 'FunctionDeclaration') functions.set(node.id.name, node);
  }
  const unit = { code, functions, constants: new Set(constants), members, copies: new Map(), waiting: [] };
  const edits = [];
  for (const node of program.body) rewrite(unit, node, new Map(), edits);
  const made = [];
  while (unit.waiting.length > 0) made.push(copyOf(unit, unit.waiting.pop()));
  return { code: `${apply(code, 0, code.length, edits)}\n${made.join('\n')}\n`, copies: made.length };
}

/** The text of a specialised copy. */
function copyOf(unit, { name, node, bound }) {
  const names = new Map();
  const edits = [{ start: node.id.start, end: node.id.end, text: name }];
  node.params.forEach((param, i) => {
    if (bound.has(i)) names.set(param.name, bound.get(i));
  });
  const kept = node.params.filter((_, i) => !bound.has(i)).map((param) => unit.code.slice(param.start, param.end));
  const first = node.params[0].start;
  edits.push({ start: first, end: node.params.at(-1).end, text: kept.join(', ') });
  rewrite(unit, node.body, names, edits);
  return apply(unit.code, node.start, node.end, edits);
}

/** Collects the edits of a piece of the module in which `names` stand for constants. */
function rewrite(unit, root, names, edits) {
  const known = new Map(names);
  visit(root, null, null, (node, parent, key) => {
    if (node.type === 'VariableDeclarator' && node.id.type === 'Identifier') {
      if (names.has(node.id.name)) throw new Error(`'${node.id.name}' is declared again where it is a constant`);
      const alias = node.init && constantOf(unit, known, node.init);
      if (alias !== undefined && parent.kind === 'const') known.set(node.id.name, alias);
    }
    if (node.type === 'CallExpression' && rewriteCall(unit, node, known, edits)) return;
    if (node.type === 'Identifier' && names.has(node.name) && isReference(node, parent, key)) {
      const text = parent.type === 'Property' && parent.shorthand ? `${node.name}: ` : '';
      edits.push({ start: node.start, end: node.end, text: text + names.get(node.name) });
    }
  });
}

/** Sends a call with a constant among its arguments to the copy for it. */
function rewriteCall(unit, call, known, edits) {
  if (call.callee.type !== 'Identifier') return false;
  const callee = unit.functions.get(call.callee.name);
  if (callee === undefined) return false;
  const bound = new Map();
  call.arguments.forEach((argument, i) => {
    const constant = constantOf(unit, known, argument);
    if (constant !== undefined && callee.params[i]?.type === 'Identifier') bound.set(i, constant);
  });
  if (bound.size === 0) return false;
  edits.push({ start: call.callee.start, end: call.callee.end, text: requestCopy(unit, callee, bound) });
  // From the end of the argument before, or to the beginning of the next: the comma goes with it.
  call.arguments.forEach((argument, i) => {
    if (!bound.has(i)) return;
    const next = call.arguments[i + 1];
    const hasBefore = call.arguments.slice(0, i).some((_, j) => !bound.has(j));
    if (next !== undefined) edits.push({ start: argument.start, end: next.start, text: '' });
    else edits.push({ start: hasBefore ? call.arguments[i - 1].end : argument.start, end: argument.end, text: '' });
  });
  return true;
}

/** The name of a function's copy, made when it is asked for first. */
function requestCopy(unit, node, bound) {
  const name = `${node.id.name}$${[...bound].map(([i, constant]) => `${i}${constant}`).join('$')}`;
  if (!unit.copies.has(name)) {
    unit.copies.set(name, node);
    unit.waiting.push({ name, node, bound });
  }
  return name;
}

/** The constant that an expression is, undefined for others. */
function constantOf(unit, known, node) {
  if (node.type === 'Identifier')
    return known.get(node.name) ?? (unit.constants.has(node.name) ? node.name : undefined);
  if (node.type !== 'MemberExpression' || node.computed) return undefined;
  return unit.members[`${constantOf(unit, known, node.object)}.${node.property.name}`];
}

/** True for an identifier that stands for a value, not for the name of a property. */
function isReference(node, parent, key) {
  if (parent === null) return true;
  if (parent.type === 'MemberExpression') return key !== 'property' || parent.computed;
  if (parent.type === 'Property') return key === 'value' || parent.computed;
  return true;
}

function visit(node, parent, key, enter) {
  enter(node, parent, key);
  for (const [name, child] of Object.entries(node)) {
    if (Array.isArray(child)) {
      for (const item of child) if (item !== null && typeof item?.type === 'string') visit(item, node, name, enter);
    } else if (child !== null && typeof child?.type === 'string') visit(child, node, name, enter);
  }
}

/** The text from `start` to `end` with the edits carried out; of two that overlap the one that begins first holds. */
function apply(code, start, end, edits) {
  let text = '';
  let at = start;
  for (const edit of edits.sort((a, b) => a.start - b.start)) {
    if (edit.start < at) continue;
    text += code.slice(at, edit.start) + edit.text;
    at = edit.end;
  }
  return text + code.slice(at, end);
}
