// The text as it was read: each value is a button that shows what it was read as. One of them is in the tab order; arrow keys go on from it.

import { element } from "./answer.js";

const WORDS = { field: "", beside: "beside the VMCS", msr: "capability MSR", encoding: "encoding of", outcome: "" };

export class Annotated {
  constructor(place, detail, next) {
    this.place = place;
    this.detail = detail;
    this.next = next;
    this.marks = new Map(); // button -> what was read of it, mostly one thing
    this.pinned = null;
    place.addEventListener("mouseover", ({ target }) => !this.pinned && this.open(target.closest("button.mark")));
    place.addEventListener("mouseout", ({ target }) => target.closest("button.mark") && !this.pinned && this.close());
    place.addEventListener("focusin", ({ target }) => target.matches("button.mark") && this.focused(target));
    place.addEventListener("focusout", () => this.close());
    place.addEventListener("click", ({ target }) => this.clicked(target.closest("button.mark")));
    place.addEventListener("keydown", (event) => this.pressed(event));
    document.addEventListener("pointerdown", ({ target }) => !place.contains(target) && !detail.contains(target) && this.close());
    window.addEventListener("resize", () => this.close());
    next.addEventListener("click", () => this.toNextBad());
  }

  // Shows lines; returns whether there is a value on any of them. `several`: they are of more than one state.
  show(lines, several) {
    this.close();
    this.marks.clear();
    this.several = several;
    this.place.style.setProperty("--digits", String(lines.at(-1)?.number ?? 1).length);
    this.place.replaceChildren(...lines.map((line) => (line.skipped ? skipped(line) : this.line(line))));
    const buttons = [...this.marks.keys()];
    this.bad = buttons.filter((button) => this.marks.get(button).some(({ bad }) => bad));
    for (const button of buttons) button.tabIndex = -1;
    if (buttons.length) (this.bad[0] ?? buttons[0]).tabIndex = 0;
    this.next.hidden = !this.bad.length;
    this.next.textContent = this.bad.length > 1 ? `Next of ${this.bad.length} wrong values` : "Show the wrong value";
    return buttons.length > 0;
  }

  line({ number, text, marks, warnings, unread }) {
    const content = element("span", { class: "content" });
    let at = 0;
    for (const group of together(marks)) {
      const [{ first, last, value }] = group;
      if (first) content.append(text.slice(at, first - 1), this.button(group, text.slice(first - 1, last)));
      else content.append(text.slice(at), " ", this.button(group, value));
      at = first ? last : text.length;
    }
    content.append(text.slice(at));
    const made = element("div", { class: unread ? "line unread" : "line", id: `line-${number}` });
    made.append(element("span", { class: "number" }, String(number)), content);
    if (unread) made.append(element("span", { class: "hidden" }, " (has numbers of which nothing was read)"));
    for (const warning of warnings) made.append(element("p", { class: "warning" }, warning));
    return made;
  }

  button(group, shown) {
    const bad = group.some((mark) => mark.bad);
    const kind = bad ? "bad" : group.some((mark) => mark.assumed || mark.part) ? "odd" : "ok";
    const said = group.map((mark) => [WORDS[mark.kind], mark.title, mark.encoding].filter(Boolean).join(" ")).join(" and ");
    const made = element("button", { type: "button", class: `mark ${kind}`, "aria-label": `${shown}: ${said}${bad ? ", violates a check" : ""}` }, shown);
    this.marks.set(made, group);
    return made;
  }

  goTo(number) {
    const line = document.getElementById(`line-${number}`);
    if (!line) return;
    const button = line.querySelector("button.mark.bad") ?? line.querySelector("button.mark");
    line.scrollIntoView({ block: "center" });
    if (button) button.focus({ preventScroll: true });
  }

  toNextBad() {
    const at = this.bad.indexOf(this.last);
    const button = this.bad[(at + 1) % this.bad.length];
    button.scrollIntoView({ block: "center" });
    button.focus({ preventScroll: true });
  }

  focused(button) {
    for (const other of this.marks.keys()) other.tabIndex = other === button ? 0 : -1;
    this.last = button;
    this.open(button);
  }

  clicked(button) {
    if (!button) return;
    this.open(button);
    this.pinned = button;
  }

  pressed(event) {
    if (event.key === "Escape") return this.close();
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const buttons = [...this.marks.keys()];
    const at = buttons.indexOf(document.activeElement);
    const wanted = step && at >= 0 ? buttons[at + step] : { Home: buttons[0], End: buttons.at(-1) }[event.key];
    if (!wanted) return;
    event.preventDefault();
    this.pinned = null;
    wanted.focus();
    wanted.scrollIntoView({ block: "nearest" });
  }

  open(button) {
    if (!button) return;
    this.detail.replaceChildren(...this.marks.get(button).flatMap((mark) => described(mark, this.several)));
    this.detail.hidden = false;
    button.setAttribute("aria-describedby", "detail");
    const [of, own] = [button.getBoundingClientRect(), this.detail.getBoundingClientRect()];
    const below = of.bottom + own.height + 12 < innerHeight;
    this.detail.style.left = `${Math.max(8, Math.min(of.left, document.documentElement.clientWidth - own.width - 8))}px`;
    this.detail.style.top = `${Math.max(8, below ? of.bottom + 6 : of.top - own.height - 6)}px`;
  }

  close() {
    this.pinned = null;
    this.detail.hidden = true;
    for (const button of this.place.querySelectorAll("[aria-describedby]")) button.removeAttribute("aria-describedby");
  }
}

// The marks of a line in the order in which they are shown: those of one number together, those of which nobody knows the number at the end.
function together(marks) {
  const groups = [];
  for (const mark of marks.toSorted((one, other) => (one.first || Infinity) - (other.first || Infinity))) {
    const [before] = groups.at(-1) ?? [];
    if (before?.first && mark.first && mark.first <= before.last) groups.at(-1).push(mark);
    else groups.push([mark]);
  }
  return groups;
}

function skipped({ skipped: count }) {
  return element("div", { class: "line skipped" }, element("span", { class: "number" }, "⋮"), `${count} lines of which nothing was read`);
}

function described(mark, several) {
  const title = [WORDS[mark.kind], mark.title].filter(Boolean).join(" ");
  const made = [element("p", { class: "head" }, element("strong", {}, title), " ", element("code", {}, mark.encoding))];
  const before = mark.kind === "encoding" ? "the text has " : "";
  const value = mark.kind === "outcome" ? mark.value : element("code", {}, mark.value);
  made.push(element("p", { class: "value" }, before, value, several ? ` in state ${mark.dump}` : ""));
  if (mark.part) made.push(element("p", {}, `Only these bits of it are known: ${mark.part}`));
  if (mark.assumed) made.push(element("p", { class: "assumed" }, `Assumed: ${mark.assumed}.`));
  made.push(...mark.wrong.map((sentence) => element("p", { class: "wrong" }, sentence)));
  if (mark.bits.length) {
    made.push(
      element("ul", { class: "bits" }, ...mark.bits.map(({ bits, name, value }) => {
        const digits = value > 9 ? `${value.toString(16).toUpperCase()}H` : String(value);
        return element("li", { class: value ? "one" : "zero" }, element("span", {}, bits), ` ${name || "(no name)"} `, element("b", {}, digits));
      })),
    );
  }
  return made;
}
