"""The checks of scripts/check-text, over the files that git knows or would add."""

import re
import subprocess
import sys

LIMIT = 120

# Rooms whose lines are not all within the limit yet.
LONG_LINES = """
    ConfidentialMemory ControlInterface HolderLaunch KVM TDHolder TDXControl TDXDaemon TDXEmulator TDXModule
    TDXModuleServer Varlink tdx-holder tdx-module-server
""".split()

# Rooms that still use words of WORDS.
OLD_WORDS = """
    CLinux CTDXVMM ControlInterface KVM TDHolder TDXControl TDXDaemon VMMEngine VMMTerms
""".split()

# Pattern in a comment or a text in quotes, and what to write. docs/glossary.md has the reasons.
WORDS = [
    (r"\b(nobody|somebody|anybody)\b", "name who or what: 'no process', 'another client'"),
    (r"\b(tells?|told|telling)\b", "'reports', 'shows', 'returns', 'notifies'"),
    (r"\b(says?|said|saying)\b", "'states', 'contains', 'returns', 'logs'"),
    (r"\bbehind\b", "'after', 'beyond', 'of'"),
    (r"\bwhat stands behind\b", "'what follows', or name it"),
    (r"(?<!there )\bis no (?!longer\b|more\b|less\b|such\b|greater\b|larger\b)\w+", "'is not a …', 'invalid …'"),
    (r"\b(outweighs?|rages?)\b", "'wins over', 'is active'"),
    (r"\bflaws?\b", "'error', 'violation' or 'problem'"),
]

# Addresses that the project does not have.
ADDRESSES = re.compile(r"[\w.+-]+@tdxd\.\w+|https?://(?:www\.)?tdxd\.(?:io|org|com|dev)\b")

COMMENT = re.compile(r"//.*|\"(?:[^\"\\]|\\.)*\"")


def listed():
    """Names of all text files that are committed or would be."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], check=True, capture_output=True
    ).stdout.decode()
    return [name for name in names.split("\0") if name]


def lines(name):
    try:
        with open(name, encoding="utf-8") as file:
            return file.read().split("\n")
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return []


def main():
    wrong = []
    long_rooms, old_rooms = set(), set()
    rooms = set()
    for name in listed():
        parts = name.split("/")
        room = parts[1] if parts[0] == "Sources" and len(parts) > 2 else None
        if room:
            rooms.add(room)
        for number, line in enumerate(lines(name), 1):
            place = f"{name}:{number}"
            if name != "scripts/text/check.py" and ADDRESSES.search(line):
                wrong.append(f"{place}: an invented address: {line.strip()}")
            if room and len(line) > LIMIT and name.endswith((".swift", ".h", ".c", ".varlink")):
                long_rooms.add(room)
                if room not in LONG_LINES:
                    wrong.append(f"{place}: {len(line)} columns, at most {LIMIT}")
            if room and name.endswith((".swift", ".h", ".c")):
                text = " ".join(COMMENT.findall(line))
                for pattern, better in WORDS:
                    found = re.search(pattern, text, re.IGNORECASE)
                    if found:
                        old_rooms.add(room)
                        if room not in OLD_WORDS:
                            wrong.append(f"{place}: “{found.group(0)}”: {better}")
    for title, allowed, found in ("LONG_LINES", LONG_LINES, long_rooms), ("OLD_WORDS", OLD_WORDS, old_rooms):
        for room in sorted(set(allowed) - found):
            reason = "is clean" if room in rooms else "does not exist"
            print(f"scripts/text/check.py: {room} {reason}: take it out of {title}")
    if len(sys.argv) > 1 and sys.argv[1] == "--lists":
        print("LONG_LINES:", *sorted(long_rooms), "\nOLD_WORDS:", *sorted(old_rooms))
        return 0
    if wrong:
        print(*wrong, f"check-text: {len(wrong)} places", sep="\n")
        return 1
    print(f"Text: {len(rooms)} rooms; lines too long in {len(long_rooms)} rooms, old words in {len(old_rooms)} rooms")
    return 0


sys.exit(main())
