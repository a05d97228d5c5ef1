/// A configuration file in the form that systemd's have: `[section]`, `key = value`, and lines that begin with `#` or
/// `;` are comments. Blanks around keys and values do not count. A value may stand in double quotes, which keep its
/// blanks; it never continues on the next line. A value without quotes that is empty stands for the default.
public struct INIDocument: Hashable, Sendable {
    /// One `key = value`.
    public struct Assignment: Hashable, Sendable {
        public var section: String
        public var key: String
        /// Nil where nothing follows the equals sign.
        public var value: String?
        /// From 1.
        public var line: Int
    }

    /// The largest file that is read, in bytes.
    public static let maximumSize = 1 << 20

    /// The path, for messages.
    public let file: String
    /// In the order of the file. No key occurs twice in a section.
    public let assignments: [Assignment]

    public init(parsing bytes: some Collection<UInt8>, file: String) throws(ConfigurationError) {
        guard bytes.count <= Self.maximumSize else {
            throw ConfigurationError(
                .tooLarge, file: file, message: "\(bytes.count) bytes; at most \(Self.maximumSize) are read")
        }
        var assignments: [Assignment] = []
        var firstLines: [String: Int] = [:]
        var section: String?
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, raw) in lines.enumerated() {
            let number = index + 1
            let text = try Self.text(of: raw, file: file, line: number)
            if text.isEmpty || text.hasPrefix("#") || text.hasPrefix(";") { continue }
            if text.hasPrefix("[") {
                section = try Self.sectionName(text, file: file, line: number)
                continue
            }
            guard let equals = text.firstIndex(of: "=") else {
                throw ConfigurationError(
                    .syntax, file: file, line: number,
                    message: "“\(text)” is neither “[section]” nor “key = value” nor a comment")
            }
            let key = trimmed(text[..<equals])
            guard !key.isEmpty, key.utf8.allSatisfy(isKeyByte) else {
                throw ConfigurationError(
                    .syntax, file: file, line: number, message: "invalid key “\(key)”; keys are made of a-z 0-9 _")
            }
            guard let section else {
                throw ConfigurationError(
                    .outsideSection, file: file, line: number, message: "“\(key)” stands before the first [section]")
            }
            let value = try Self.value(trimmed(text[text.index(after: equals)...]), file: file, line: number)
            if let first = firstLines.updateValue(number, forKey: section + "." + key) {
                throw ConfigurationError(
                    .duplicateKey, file: file, line: number,
                    message: "“\(key)” in [\(section)] was already set in line \(first)")
            }
            assignments.append(Assignment(section: section, key: String(key), value: value, line: number))
        }
        self.file = file
        self.assignments = assignments
    }

    private static func text(
        of raw: some Collection<UInt8>, file: String, line: Int
    ) throws(ConfigurationError) -> Substring {
        guard let text = String(validating: raw, as: UTF8.self) else {
            throw ConfigurationError(.notText, file: file, line: line, message: "the line is not UTF-8")
        }
        let content = trimmed(text[...])
        guard !content.unicodeScalars.contains(where: { ($0.value < 0x20 && $0 != "\t") || $0.value == 0x7f }) else {
            throw ConfigurationError(.notText, file: file, line: line, message: "the line has control characters")
        }
        return content
    }

    private static func sectionName(
        _ text: Substring, file: String, line: Int
    ) throws(ConfigurationError) -> String {
        let name = text.dropFirst().dropLast()
        guard text.hasSuffix("]"), !name.isEmpty, name.utf8.allSatisfy(isKeyByte) else {
            throw ConfigurationError(
                .syntax, file: file, line: line, message: "invalid section “\(text)”; write “[name]” with a-z 0-9 _")
        }
        return String(name)
    }

    private static func value(
        _ text: Substring, file: String, line: Int
    ) throws(ConfigurationError) -> String? {
        guard text.hasPrefix("\"") else { return text.isEmpty ? nil : String(text) }
        let inner = text.dropFirst().dropLast()
        guard text.count >= 2, text.hasSuffix("\""), !inner.contains("\"") else {
            throw ConfigurationError(
                .syntax, file: file, line: line,
                message: "\(text): a quoted value ends with a quote and has none inside")
        }
        return String(inner)
    }
}

/// Without blanks, tabs and carriage returns around it.
private func trimmed(_ text: Substring) -> Substring {
    func isBlank(_ scalar: Unicode.Scalar) -> Bool { scalar == " " || scalar == "\t" || scalar == "\r" }
    let scalars = text.unicodeScalars
    guard let first = scalars.firstIndex(where: { !isBlank($0) }),
        let last = scalars.lastIndex(where: { !isBlank($0) })
    else { return "" }
    return text[first..<scalars.index(after: last)]
}

private func isKeyByte(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        || byte == UInt8(ascii: "_")
}
