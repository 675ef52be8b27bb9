// The answers as elements: a paragraph's role says what it becomes.

// Parts that few need open.
const CLOSED = { undecided: "What was not judged", read: "How the text was read" };
// What a person can do here about a paragraph of this role; in a terminal it would be an option.
const HINTS = { "missing facts": "Choose the processor above, if it is there." };
// Of a check: what is behind "Rule and reason".
const BEHIND = new Set(["rule", "section", "why"]);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// `goTo`: shows a line of the annotated text.
export function showAnswers(place, { answers, more }, goTo) {
  place.replaceChildren(...answers.map((answer, index) => article(answer, answers.length > 1 ? `State ${index + 1}: ${answer.name}` : "", goTo)));
  if (more) place.append(element("p", { class: "small" }, `${more} more states in this text are not shown.`));
}

function article(answer, title, goTo) {
  const kind = ["passes", "fails", "unread"][answer.exit_code];
  const made = element("article", { class: `answer ${kind}` });
  if (title) made.append(element("p", { class: "name" }, title));
  for (const { name, groups } of answer.sections) {
    if (groups.length) made.append(section(name, groups, goTo, kind !== "unread"));
    if (name === "opening" && kind !== "unread") made.append(copyButton(answer.markdown));
  }
  return made;
}

function copyButton(markdown) {
  const button = element("button", { type: "button", class: "copy" }, "Copy as Markdown");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(markdown);
      button.textContent = "Copied";
    } catch {
      const shown = element("textarea", { readonly: true, rows: 8, "aria-label": "The answer as Markdown" });
      shown.value = markdown;
      button.replaceWith(shown); // where the browser refuses, a person can copy by hand
      shown.focus();
      shown.select();
      return;
    }
    setTimeout(() => (button.textContent = "Copy as Markdown"), 2000);
  });
  return element("p", { class: "tools", "aria-live": "polite" }, button);
}

function section(name, groups, goTo, mayClose) {
  const made = mayClose && name in CLOSED ? element("details", { class: name }, element("summary", {}, CLOSED[name])) : element("section", { class: name });
  for (const group of groups) {
    const isCheck = group[0].role === "check";
    const shown = isCheck ? group.filter(({ role }) => !BEHIND.has(role)) : group;
    const box = element("div", { class: isCheck ? "group check" : "group" }, ...shown.map((one) => paragraph(one, goTo)));
    const behind = group.filter(({ role }) => isCheck && BEHIND.has(role));
    if (behind.length) {
      box.append(element("details", {}, element("summary", {}, "Rule and reason"), ...behind.map((one) => paragraph(one, goTo))));
    }
    made.append(box);
  }
  return made;
}

function paragraph({ role, label, text, line }, goTo) {
  const kind = role.replaceAll(" ", "-");
  if (role === "outcome") return element("h2", { class: kind, tabindex: "-1" }, text);
  if (role === "heading") return element("h3", {}, (label ? `${label}: ${text}` : text).replace(/:$/, ""));
  if (role === "check") return element("h4", {}, element("code", {}, text));
  if (role === "command") return element("pre", {}, text);
  const made = element("p", { class: kind });
  if (label) made.append(element("strong", {}, `${label}:`), " ");
  made.append(...withCode(text));
  if (role in HINTS) made.append(" ", HINTS[role]);
  if (line) {
    const button = element("button", { type: "button", class: "link", "aria-label": `show line ${line}` }, "show it");
    button.addEventListener("click", () => goTo(line));
    made.append(" ", button);
  }
  return made;
}

// `commands` stand between backquotes.
function withCode(text) {
  return text.split("`").map((part, index, all) => (index % 2 && index < all.length - 1 ? element("code", {}, part) : part));
}
