extension VarlinkInterface {
    /// Reads an interface description as <https://varlink.org/Interface-Definition> lays it down.
    ///
    /// - Throws: `InterfaceError` with the line for what does not parse, for a name declared twice and for a type that
    ///   is used but not declared.
    public init(parsing text: String) throws(InterfaceError) {
        var parser = InterfaceParser(text)
        self = try parser.parse()
        self.text = text
    }
}

private struct InterfaceParser {
    private enum Token: Equatable {
        case word(String)
        case symbol(String)
        case end
    }

    /// `comments`: the lines directly above the token, without “#”.
    private var tokens: [(token: Token, line: Int, comments: [String])] = []
    private var index = 0
    private var usedTypes: [(name: String, line: Int)] = []
    private var comments: [String: [String]] = [:]
    /// What the names of fields are added to, as keys of `comments`.
    private var place = ""
    private var depth = 0
    /// Types and structures that may be open at once: both are read, and later freed, by recursion.
    private static let depthLimit = 64

    init(_ text: String) {
        var line = 1
        var rest = Substring(text)
        var comments: [String] = []
        var lineIsBlank = true
        func add(_ token: Token) {
            tokens.append((token, line, comments))
            comments = []
            lineIsBlank = false
        }
        while let character = rest.first {
            if character == "#" {
                let comment = rest.prefix { !$0.isNewline }
                // A comment after a token on its line belongs to nothing that follows.
                if lineIsBlank { comments.append(String(comment.dropFirst(comment.hasPrefix("# ") ? 2 : 1))) }
                lineIsBlank = false
                rest = rest.dropFirst(comment.count)
            } else if character.isWhitespace {
                if character.isNewline {
                    line += 1
                    if lineIsBlank { comments = [] }
                    lineIsBlank = true
                }
                rest.removeFirst()
            } else if rest.hasPrefix("->") {
                add(.symbol("->"))
                rest.removeFirst(2)
            } else if Self.isWordPart(character), character != "-" {
                let word = rest.prefix(while: Self.isWordPart)
                // "->" may follow a word at once; a name cannot end with a dash.
                let trimmed = word.hasSuffix("-") ? word.dropLast() : word
                add(.word(String(trimmed)))
                rest = rest.dropFirst(trimmed.count)
            } else {
                add(.symbol(String(character)))
                rest.removeFirst()
            }
        }
        add(.end)
    }

    private static func isWordPart(_ character: Character) -> Bool {
        character.isASCII && (character.isLetter || character.isNumber || "_.-".contains(character))
    }

    mutating func parse() throws(InterfaceError) -> VarlinkInterface {
        var interface = VarlinkInterface()
        comments[""] = tokens[index].comments
        guard accept(.word("interface")) else { throw failure("expected “interface”") }
        interface.name = try word("the interface's name")
        guard interface.name.contains("."), isInterfaceName(interface.name) else {
            throw failure("“\(interface.name)” is not a valid interface name")
        }
        while peek != .end {
            let above = tokens[index].comments
            let keyword = try word("“type”, “method” or “error”")
            let name = try memberName()
            interface.order.append(name)
            comments[name] = above
            place = name + "."
            guard interface.types[name] == nil, interface.methods[name] == nil, interface.errors[name] == nil else {
                throw failure("“\(name)” is declared twice")
            }
            switch keyword {
            case "type": interface.types[name] = try structureOrEnumeration()
            case "method":
                let parameters = try structure()
                guard accept(.symbol("->")) else { throw failure("expected “->”") }
                place = name + "->"
                interface.methods[name] = .init(parameters: parameters, reply: try structure())
            case "error": interface.errors[name] = peek == .symbol("(") ? try structure() : []
            default: throw failure("“\(keyword)” is neither “type” nor “method” nor “error”")
            }
        }
        for use in usedTypes where interface.types[use.name] == nil {
            throw InterfaceError(line: use.line, reason: "the type “\(use.name)” is not declared")
        }
        interface.comments = comments.filter { !$0.value.isEmpty }
        return interface
    }

    private mutating func structure() throws(InterfaceError) -> [VarlinkField] {
        switch try structureOrEnumeration() {
        case .structure(let fields): return fields
        default: throw failure("expected fields with types")
        }
    }

    /// `()`, `(a: int, b: string)` or `(a, b)`.
    private mutating func structureOrEnumeration() throws(InterfaceError) -> VarlinkType {
        guard accept(.symbol("(")) else { throw failure("expected “(”") }
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.depthLimit else { throw failure("nested too deeply") }
        if accept(.symbol(")")) { return .structure([]) }
        var fields: [VarlinkField] = []
        var names: [String] = []
        repeat {
            let above = tokens[index].comments
            let name = try word("a field's name")
            guard isFieldName(name) else { throw failure("“\(name)” is not a valid field name") }
            guard !names.contains(name) else { throw failure("the field “\(name)” is declared twice") }
            names.append(name)
            let outer = place
            comments[outer + name] = above
            place = outer + name + "."
            if accept(.symbol(":")) { fields.append(VarlinkField(name, try type())) }
            place = outer
            guard fields.isEmpty || fields.count == names.count else {
                throw failure("the field “\(name)” has no type")
            }
        } while accept(.symbol(","))
        guard accept(.symbol(")")) else { throw failure("expected “,” or “)”") }
        return fields.isEmpty ? .enumeration(names) : .structure(fields)
    }

    private mutating func type() throws(InterfaceError) -> VarlinkType {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.depthLimit else { throw failure("nested too deeply") }
        if accept(.symbol("?")) {
            guard peek != .symbol("?") else { throw failure("“??” is not a type") }
            return .optional(try type())
        }
        if accept(.symbol("[")) {
            let isMap = accept(.word("string"))
            guard accept(.symbol("]")) else { throw failure("expected “]”") }
            let element = try type()
            return isMap ? .map(element) : .array(element)
        }
        if peek == .symbol("(") { return try structureOrEnumeration() }
        let name = try word("a type")
        switch name {
        case "bool": return .bool
        case "int": return .int
        case "float": return .float
        case "string": return .string
        case "object": return .object
        case "any": return .any
        default:
            guard isMemberName(name) else { throw failure("“\(name)” is not a type") }
            usedTypes.append((name, tokens[index - 1].line))
            return .named(name)
        }
    }

    // MARK: Tokens

    private var peek: Token { tokens[index].token }

    private mutating func accept(_ token: Token) -> Bool {
        guard peek == token, token != .end else { return false }
        index += 1
        return true
    }

    private mutating func word(_ what: String) throws(InterfaceError) -> String {
        guard case .word(let text) = peek else { throw failure("expected \(what)") }
        index += 1
        return text
    }

    private mutating func memberName() throws(InterfaceError) -> String {
        let name = try word("a name")
        guard isMemberName(name) else {
            throw failure("“\(name)” must begin with a capital and have letters and digits")
        }
        return name
    }

    private func failure(_ reason: String) -> InterfaceError {
        InterfaceError(line: tokens[index].line, reason: reason)
    }

    private func isMemberName(_ name: String) -> Bool {
        name.first?.isUppercase == true && name.allSatisfy { $0.isLetter || $0.isNumber }
    }

    private func isFieldName(_ name: String) -> Bool {
        name.first?.isLetter == true && name.allSatisfy { $0.isLetter || $0.isNumber || $0 == "_" }
            && !name.hasSuffix("_") && !name.contains("__")
    }

    private func isInterfaceName(_ name: String) -> Bool {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return parts.first?.first?.isLetter == true
            && parts.allSatisfy { part in
                !part.isEmpty && !part.hasPrefix("-") && !part.hasSuffix("-")
                    && part.allSatisfy { $0.isLetter || $0.isNumber || $0 == "-" }
            }
    }
}
