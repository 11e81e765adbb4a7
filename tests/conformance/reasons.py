"""The server's own reasons in a few words, the same words for the same reason, to group by."""

import re

LENGTH = 110

# The first that matches says it all.
WHOLE = [
    (r"Unimplemented\((\w+)\)", r"operator \1 is not supported"),
    (r"operator (?:[\w.]+\.)?(\w+) \(node '[^']*'\) is not supported", r"operator \1 is not supported"),
    (r"(?:[\w.]+/)?(\w+) operator not supported or not enabled", r"operator \1 is not supported"),
    (r"Unknown DatumType (\w+)", r"data type \1 is not supported"),
    (r"is of datatype (\w+), and rten", r"data type \1 is not supported"),
    (r"the engines differ, and nothing decides", "the engines differ"),
]

# What is about this very model or about the engine's inside.
NOISE = [
    (r"; docs/models.md says.*", ""),
    (r"^\d{3}: ", ""),
    (r"(tract|rten) (cannot run (this|the) model( with these inputs)?|failed): ", ""),
    (r"operator \"\" failed: ", ""),
    (r"operator error: ", ""),
    (r"\. Inputs were .*", ""),
    (r"operator (\w+) \(node '[^']*'\): ", r"\1: "),
    (r"Translating proto model to model: ", ""),
    (r"(Translating|Failed analyse for|codegen) node #\d+ \"[^\"]*\" ", ""),
    (r"Evaluating #\d+ \"[^\"]*\" ", ""),
    (r"Building node \S* ?\((\w+)\): (\1: )?", r"\1: "),
    (r"running pass \w+: ", ""),
    (r"(in output_facts invocation for|wiring node) [^:]*: ", ""),
    (r"ToTypedTranslator: ", ": "),
    (r"Infering facts: ", ""),
    (r"[\"'`][^\"'`]*[\"'`]", "…"),
    (r" *: *(: *)*", ": "),
    (r"\[[^\]]*\]", "[…]"),
    (r"\b(\w+: )\1", r"\1"),
    (r"Symbol <\w+>", "Symbol"),
    (r"\b(Val|Sym)\([^)]*\)", "…"),
    (r"\.$", ""),
]


def short(reason):
    for pattern, words in WHOLE:
        found = re.search(pattern, reason)
        if found:
            return found.expand(words)
    for pattern, words in NOISE:
        reason = re.sub(pattern, words, reason)
    reason = reason.replace("|", "\\|").strip()
    return reason if len(reason) <= LENGTH else reason[: LENGTH - 1].rstrip() + "…"
