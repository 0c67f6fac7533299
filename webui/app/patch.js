// Applies a JSON Patch (RFC 6902) to a document in place: of its operations those that the server
// makes (add, remove, replace), and the others because they are three lines.

/** Applies `ops` to `doc` and returns it; a replaced root is a new document. Throws when one does not fit. */
export function applyPatch(doc, ops) {
  for (const op of ops) doc = apply(doc, op);
  return doc;
}

function apply(doc, op) {
  switch (op.op) {
    case 'add': return add(doc, op.path, op.value);
    case 'remove': return remove(doc, op.path);
    case 'replace': return replace(doc, op.path, op.value);
    case 'move': return move(doc, op.from, op.path);
    case 'copy': return add(doc, op.path, structuredClone(at(doc, op.from)));
    case 'test': return test(doc, op.path, op.value);
    default: throw new Error(`no such operation: ${op.op}`);
  }
}

function add(doc, path, value) {
  if (path === '') return value;
  const [parent, key] = locate(doc, path);
  if (Array.isArray(parent)) parent.splice(key === '-' ? parent.length : index(parent.length + 1, key), 0, value);
  else parent[key] = value;
  return doc;
}

function remove(doc, path) {
  if (path === '') return null;
  const [parent, key] = locate(doc, path);
  if (Array.isArray(parent)) parent.splice(index(parent.length, key), 1);
  else if (Object.hasOwn(parent, key)) delete parent[key];
  else throw new Error(`nothing at ${path}`);
  return doc;
}

function replace(doc, path, value) {
  if (path === '') return value;
  const [parent, key] = locate(doc, path);
  if (Array.isArray(parent)) parent[index(parent.length, key)] = value;
  else if (Object.hasOwn(parent, key)) parent[key] = value;
  else throw new Error(`nothing at ${path}`);
  return doc;
}

function move(doc, from, path) {
  const value = at(doc, from);
  return add(remove(doc, from), path, value);
}

function test(doc, path, value) {
  if (!same(at(doc, path), value)) throw new Error(`not the same at ${path}`);
  return doc;
}

function at(doc, path) {
  if (path === '') return doc;
  const [parent, key] = locate(doc, path);
  if (Array.isArray(parent)) return parent[index(parent.length, key)];
  if (!Object.hasOwn(parent, key)) throw new Error(`nothing at ${path}`);
  return parent[key];
}

// The container that holds what `path` names, and its key there.
function locate(doc, path) {
  const keys = path.split('/').slice(1).map((key) => key.replaceAll('~1', '/').replaceAll('~0', '~'));
  const last = keys.pop();
  for (const key of keys) {
    const own = Array.isArray(doc) ? doc[index(doc.length, key)] : Object.hasOwn(doc, key) ? doc[key] : null;
    if (own === null || typeof own !== 'object') throw new Error(`nothing at ${path}`);
    doc = own;
  }
  return [doc, last];
}

function index(length, key) {
  if (!/^(0|[1-9]\d*)$/.test(key) || Number(key) >= length) throw new Error(`no such place in a list: ${key}`);
  return Number(key);
}

function same(a, b) {
  if (a === b) return true;
  if (a === null || b === null || typeof a !== 'object' || typeof b !== 'object') return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && same(a[key], b[key]));
}
