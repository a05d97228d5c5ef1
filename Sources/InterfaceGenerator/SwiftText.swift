/// Swift source that is being written, a line at a time.
final class SwiftText {
    private(set) var lines: [String] = []
    private var depth = 0

    static let width = 120

    func line(_ text: String = "") {
        lines.append(text.isEmpty ? "" : String(repeating: "    ", count: depth) + text)
    }

    /// `opening {`, what `body` writes, and `}`.
    func block(_ opening: String, _ body: () throws(GeneratorError) -> Void) throws(GeneratorError) {
        line(opening + " {")
        depth += 1
        try body()
        depth -= 1
        line("}")
    }

    /// A comment of the interface as documentation, in lines of its own width.
    func documentation(_ text: [String]) {
        for (index, paragraph) in text.split(separator: "").enumerated() {
            if index > 0 { line("///") }
            var sentence = paragraph.joined(separator: " ")
            let first = sentence.prefix { $0 != " " }
            if first.allSatisfy({ $0.isLowercase || $0 == "," }) {
                sentence = sentence.prefix(1).uppercased() + sentence.dropFirst()
            }
            if let last = sentence.last, last.isLetter || last.isNumber || last == ")" { sentence += "." }
            var current = ""
            for word in sentence.split(separator: " ") {
                if !current.isEmpty, current.count + word.count + 5 + 4 * depth > Self.width {
                    line("/// " + current)
                    current = ""
                }
                current += (current.isEmpty ? "" : " ") + word
            }
            line("/// " + current)
        }
    }

    /// `opening(`, the items, `)closing`, in one line where it fits.
    func list(_ opening: String, _ items: [String], _ closing: String) {
        let whole = opening + "(" + items.joined(separator: ", ") + ")" + closing
        guard whole.count + 4 * depth > Self.width else { return line(whole) }
        line(opening + "(")
        depth += 1
        var current = ""
        for (index, item) in items.enumerated() {
            let item = item + (index + 1 < items.count ? "," : "")
            if !current.isEmpty, current.count + item.count + 1 + 4 * depth > Self.width {
                line(current)
                current = ""
            }
            current += (current.isEmpty ? "" : " ") + item
        }
        line(current)
        depth -= 1
        line(")" + closing)
    }
}

/// `memory_bytes` as `memoryBytes`, `key_id` as `keyID`, `wait_ms` as `waitMilliseconds`.
func swiftName(_ name: String) -> String {
    let acronyms = ["id": "ID", "uid": "UID", "pid": "PID", "ms": "Milliseconds"]
    let parts = name.split(separator: "_").map(String.init)
    return parts.enumerated().map { index, part in
        if index == 0 { return part.prefix(1).lowercased() + part.dropFirst() }
        return acronyms[part] ?? part.prefix(1).uppercased() + part.dropFirst()
    }.joined()
}

/// The name as it is declared, in backticks where Swift has the word for itself.
func declared(_ name: String) -> String {
    ["private", "public", "default", "case", "in", "is", "as", "none", "self", "internal"].contains(name)
        ? "`\(name)`" : name
}
