// Calls to the API. The setup code is kept in this page's memory only, and forgotten when it was wrong.

let code = null;

/** Whether a code was given and not refused. */
export const hasCode = () => code !== null;

/** Keeps the setup code for later calls. */
export function useCode(text) {
  code = text;
}

/** Calls a method. Throws an Error whose message is a sentence for the owner. */
export async function call(method, params = {}) {
  const headers = { 'content-type': 'application/json' };
  if (code !== null) headers.authorization = `Bearer ${code}`;
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  let answer;
  try {
    const reply = await fetch('/api', { method: 'POST', headers, body, signal: AbortSignal.timeout(10000) });
    if (reply.status === 401 || reply.status === 429) code = null;
    answer = await reply.json();
  } catch {
    throw new Error('The server did not answer. Nothing may have happened; look before you try again.');
  }
  if (answer.error) throw new Error(answer.error.message);
  return answer.result;
}
