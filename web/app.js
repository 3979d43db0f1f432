// The page's only program: one conversation, kept in memory, streamed from /v1/chat/completions.
// Text from people and models reaches the page as text nodes and in no other way.
// SPDX-License-Identifier: Apache-2.0
"use strict";

const at = (id) => document.getElementById(id);
const log = at("log"), input = at("input"), form = at("form"), send = at("send"), stop = at("stop");

let messages = [];      // what was said, as the interface wants it
let running = null;     // AbortController of the answer under way

function show(text, isBad) {
  at("status").textContent = text;
  at("status").className = isBad ? "failed" : "";
}

function grow() {
  input.style.height = "auto";
  input.style.height = input.scrollHeight + 2 + "px";
}

function isAtEnd() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 60;
}

function addMessage(role, text) {
  const empty = at("empty");
  if (empty) empty.hidden = true;
  const article = document.createElement("article");
  const heading = document.createElement("h2");
  const body = document.createElement("p");
  article.className = role;
  heading.textContent = role === "user" ? "You" : at("model").value;
  body.textContent = text;
  article.append(heading, body);
  log.append(article);
  log.scrollTop = log.scrollHeight;
  return body;
}

function clearLog() {
  for (const article of log.querySelectorAll("article")) article.remove();
  at("empty").hidden = false;
}

// The events of a stream, however its bytes are cut.
async function* readEvents(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
      const data = rest.slice(0, end);
      if (data.startsWith("data: ")) yield data.slice(6);
    }
    if (done) return;
  }
}

async function failure(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return "the server answered " + response.status;
  }
}

function makeRequest() {
  const system = at("system").value.trim();
  const request = {
    model: at("model").value,
    messages: system ? [{ role: "system", content: system }, ...messages] : messages,
    stream: true,
    stream_options: { include_usage: true },
  };
  if (at("temperature").value !== "") request.temperature = at("temperature").valueAsNumber;
  if (at("limit").value !== "") request.max_tokens = at("limit").valueAsNumber;
  if (at("seed").value !== "") request.seed = at("seed").valueAsNumber;
  return request;
}

// What a model thinks before it answers stands above the answer, folded.
function addThought(body) {
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  const thought = document.createElement("p");
  summary.textContent = "Thinking";
  details.className = "thought";
  details.append(summary, thought);
  body.before(details);
  return thought;
}

// Writes the answer into `body` and returns what is to be said about it.
async function streamAnswer(body, answer) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(makeRequest()),
    signal: running.signal,
  });
  if (!response.ok) throw new Error(await failure(response));
  const seed = response.headers.get("Aperto-Seed");
  const started = performance.now();
  let note = "", isWhole = false, thought = null;
  for await (const data of readEvents(response.body)) {
    if (data === "[DONE]") {
      isWhole = true;
      break;
    }
    const event = JSON.parse(data);
    if (event.error) throw new Error(event.error.message);
    for (const choice of event.choices) {
      if (choice.delta.reasoning_content) {
        answer.thought += choice.delta.reasoning_content;
        thought = thought || addThought(body);
        thought.textContent = answer.thought;
      }
      if (choice.delta.content) {
        const follow = isAtEnd();
        answer.text += choice.delta.content;
        body.textContent = answer.text;
        if (follow) log.scrollTop = log.scrollHeight;
      }
      if (choice.finish_reason === "length") note = " · cut at the longest answer or the end of the context";
    }
    if (event.usage) {
      const seconds = (performance.now() - started) / 1000;
      note = event.usage.completion_tokens + " tokens in " + seconds.toFixed(1) + " s · seed " + seed + note;
    }
  }
  if (!isWhole) throw new Error("the connection ended before the answer did");
  return note;
}

async function ask(text) {
  messages.push({ role: "user", content: text });
  addMessage("user", text);
  const body = addMessage("assistant", "");
  const answer = { text: "", thought: "" };
  running = new AbortController();
  send.hidden = true;
  stop.hidden = false;
  log.setAttribute("aria-busy", "true");
  show("Answering …");
  try {
    show(await streamAnswer(body, answer));
  } catch (error) {
    if (running.signal.aborted) show("Stopped.");
    else show("No answer: " + error.message, true);
  }
  // What was said stays part of the conversation; a question without an answer goes back to the box.
  if (answer.text || answer.thought) {
    const message = { role: "assistant", content: answer.text };
    if (answer.thought) message.reasoning_content = answer.thought;
    messages.push(message);
  } else if (messages.length) {
    messages.pop();
    body.parentNode.previousSibling.remove();
    body.parentNode.remove();
    if (!messages.length) at("empty").hidden = false;
    if (!input.value) input.value = text;
  }
  running = null;
  send.hidden = false;
  stop.hidden = true;
  log.removeAttribute("aria-busy");
  grow();
  input.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text || running) return;
  if (!document.querySelectorAll("option").length) return show("No model is served.", true);
  for (const id of ["temperature", "limit", "seed"])
    if (!at(id).checkValidity()) {
      at("settings").open = true;
      at(id).reportValidity();
      return;
    }
  input.value = "";
  grow();
  ask(text);
});

input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
input.addEventListener("input", grow);
stop.addEventListener("click", () => running && running.abort());
at("new").addEventListener("click", () => {
  if (running) return show("Stop the answer first.", true);
  messages = [];
  clearLog();
  show("");
  input.focus();
});

async function loadModels() {
  try {
    const response = await fetch("/v1/models");
    if (!response.ok) throw new Error(await failure(response));
    for (const model of (await response.json()).data) at("model").append(new Option(model.id, model.id));
  } catch (error) {
    show("The models cannot be listed: " + error.message, true);
  }
}
loadModels();
