// Asks before something is done: what will happen, and once for the setup code.

import { byId, setText, show } from './dom.js';
import { call, hasCode, useCode } from './rpc.js';

let asked = null;

/**
 * Asks, then calls `method` with `params`. `title` names the thing, `text` the consequence, `verb`
 * is on the button. `done` takes what came of it; `home` the focus back if what had it is gone.
 */
export function ask({ title, text, verb, method, params, done, home }) {
  asked = { method, params, done, home };
  setText(byId('ask-title'), title);
  setText(byId('ask-text'), text);
  setText(byId('ask-do'), verb);
  setText(byId('ask-error'), '');
  show(byId('ask-code-box'), !hasCode());
  byId('ask').showModal();
  (hasCode() ? byId('ask-do') : byId('ask-code')).focus();
}

/** Makes the dialog work. */
export function wireDialog() {
  byId('ask-not').onclick = () => byId('ask').close();
  byId('ask').onclose = () => {
    const focused = document.activeElement;
    if (focused === document.body || !focused.checkVisibility()) asked.home?.();
  };
  byId('ask-form').onsubmit = (event) => {
    event.preventDefault();
    doIt();
  };
}

async function doIt() {
  const button = byId('ask-do');
  if (button.disabled) return;
  if (!hasCode()) useCode(byId('ask-code').value.trim());
  button.disabled = true;
  setText(byId('ask-error'), '');
  try {
    const result = await call(asked.method, asked.params);
    asked.done?.(result);
    byId('ask-code').value = '';
    byId('ask').close();
  } catch (error) {
    setText(byId('ask-error'), error.message);
    show(byId('ask-code-box'), !hasCode());
    if (!hasCode()) byId('ask-code').select();
  } finally {
    button.disabled = false;
  }
}
