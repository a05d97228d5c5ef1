public import Varlink

/// Writes the Swift types of an interface: what `scripts/generate-interfaces` puts into Sources/ControlInterface.
///
/// A structure becomes a `Codable` struct, an enumeration an enum, a method an enum that conforms to `ControlMethod`.
/// What the language of interfaces cannot express stands in comments, in lines that begin with “@”
/// (docs/control-interface.md).
public final class InterfaceGenerator {
    let interface: VarlinkInterface
    /// The interface whose types and rules this one shares.
    let base: VarlinkInterface?
    private let rules: [FieldRule]
    /// Enumerations that are declared in the room Terms.
    private let terms: Set<String>
    private(set) var text = SwiftText()
    /// Enumerations without a declaration of their own, by their Swift names.
    private var enumerations: [(name: String, cases: [String], place: String)] = []

    /// - Throws: `GeneratorError` for an annotation that is not known or does not fit.
    public init(_ interface: VarlinkInterface, extending bases: [VarlinkInterface] = []) throws(GeneratorError) {
        self.interface = interface
        let own = try Annotations(interface.comments[""], at: "")
        if let name = own["extends"] {
            guard let base = bases.first(where: { $0.name == name }) else {
                throw GeneratorError(place: "", reason: "the interface \(name) was not given")
            }
            self.base = base
        } else {
            base = nil
        }
        var lines = own.all("field")
        var terms = own.all("term")
        if let base {
            let inherited = try Annotations(base.comments[""], at: "")
            lines += inherited.all("field")
            terms += inherited.all("term")
        }
        var rules: [FieldRule] = []
        for line in lines { rules.append(try FieldRule(line)) }
        self.rules = rules.filter { !$0.pattern.hasPrefix("*") } + rules.filter { $0.pattern.hasPrefix("*") }
        self.terms = Set(terms)
    }

    private var shortName: String { interface.name.split(separator: ".").last.map(String.init) ?? interface.name }

    func annotations(_ place: String) throws(GeneratorError) -> Annotations {
        try Annotations(interface.comments[place], at: place)
    }

    private static let header = [
        "// Written by scripts/generate-interfaces; changes belong into the .varlink file.", "",
    ]

    // MARK: The interface

    func begin() {
        text = SwiftText()
        enumerations = []
    }

    /// The types and methods of the interface.
    /// - Throws: `GeneratorError` for the first declaration that cannot be written.
    public func types() throws(GeneratorError) -> String {
        begin()
        for line in Self.header { text.line(line) }
        text.line("public import Terms")
        text.line("public import Varlink")
        text.line()
        for name in interface.order {
            guard let type = interface.types[name] else { continue }
            try declare(name, type)
        }
        let methods = interface.order.filter { interface.methods[$0] != nil }
        for method in methods {
            guard let name = try annotations(method)["parameters"] else { continue }
            let own = interface.methods[method]?.parameters ?? []
            try structure(name, ["What `\(method)` asks for."], own, at: method + ".", checks: false)
            text.line()
        }
        let replies = try namedReplies(methods)
        for reply in replies {
            try structure(reply.name, [], interface.methods[reply.method]?.reply ?? [], at: reply.method + "->")
            text.line()
        }
        var nested: [String] = []
        for name in interface.order where interface.types[name] != nil {
            if try annotations(name).has("nested") { nested.append(name) }
        }
        let own = try annotations("")
        text.documentation(["The methods of `\(interface.name)`."] + (own.text.isEmpty ? [] : [""] + own.text))
        try text.block("public enum \(shortName)Interface") { () throws(GeneratorError) in
            try declareMethodList(methods)
            for name in nested {
                text.line()
                guard case .structure(let fields) = interface.types[name] else {
                    throw GeneratorError(place: name, reason: "only a structure can be @nested")
                }
                try structure(name, try annotations(name).text, fields, at: name + ".")
            }
            for name in methods {
                text.line()
                try declareMethod(name)
            }
        }
        try declareEnumerations()
        return text.lines.joined(separator: "\n") + "\n"
    }

    private func namedReplies(_ methods: [String]) throws(GeneratorError) -> [(name: String, method: String)] {
        var result: [(name: String, method: String)] = []
        for method in methods {
            guard let name = try annotations(method)["reply"] else { continue }
            if let known = result.first(where: { $0.name == name }) {
                guard interface.methods[known.method]?.reply == interface.methods[method]?.reply else {
                    throw GeneratorError(place: method, reason: "its reply is not that of \(known.method)")
                }
            } else {
                result.append((name, method))
            }
        }
        return result
    }

    private func declareMethodList(_ methods: [String]) throws(GeneratorError) {
        text.line("public static let name = \"\(interface.name)\"")
        text.line()
        text.line("/// The methods by name, in the order of the interface. The raw values are those on the wire.")
        try text.block("public enum Method: String, Hashable, Sendable, CaseIterable") { () throws(GeneratorError) in
            for name in methods { text.line("case \(swiftName(name)) = \"\(name)\"") }
            text.line()
            text.line("/// What the method takes and returns.")
            try text.block("public var type: any ControlMethod.Type") { () throws(GeneratorError) in
                text.line("switch self {")
                for name in methods { text.line("case .\(swiftName(name)): \(shortName)Interface.\(name).self") }
                text.line("}")
            }
        }
    }

    private func declareMethod(_ name: String) throws(GeneratorError) {
        guard let method = interface.methods[name] else { return }
        let own = try annotations(name)
        text.documentation(own.text)
        try text.block("public enum \(name): ControlMethod") { () throws(GeneratorError) in
            text.line("public static let method = \"\(interface.name).\(name)\"")
            text.line("public static let streams = \(own.has("streams"))")
            if let parameters = own["parameters"] {
                text.line("public typealias Parameters = ControlInterface.\(parameters)")
            } else if method.parameters.isEmpty {
                text.line("public typealias Parameters = NoParameters")
            } else {
                text.line()
                try structure("Parameters", [], method.parameters, at: name + ".", checks: false)
            }
            if let other = own["reply-of"] {
                guard interface.methods[other]?.reply == method.reply else {
                    throw GeneratorError(place: name, reason: "its reply is not that of \(other)")
                }
                text.line("public typealias Reply = \(other).Reply")
            } else if let reply = own["reply"] {
                text.line("public typealias Reply = ControlInterface.\(reply)")
            } else if method.reply.isEmpty {
                text.line("public typealias Reply = NoParameters")
            } else {
                text.line()
                try structure("Reply", [], method.reply, at: name + "->")
            }
        }
    }

    // MARK: Types

    private func declare(_ name: String, _ type: VarlinkType) throws(GeneratorError) {
        let own = try annotations(name)
        if own.has("same") {
            guard let base, try Self.type(name, of: base).map(base.expanded) == interface.expanded(type) else {
                throw GeneratorError(place: name, reason: "it is not the type of the interface that this one extends")
            }
            return
        }
        let swift = own["swift"] ?? name
        guard !terms.contains(swift), !own.has("nested") else { return }
        switch type {
        case .structure(let fields): try structure(swift, own.text, fields, at: name + ".")
        case .enumeration(let cases): try enumeration(swift, own.text, cases, at: name + ".")
        default: throw GeneratorError(place: name, reason: "it is neither a structure nor an enumeration")
        }
        text.line()
    }

    /// A declared type, or the parameters of a method that are given a name.
    private static func type(_ name: String, of base: VarlinkInterface) throws(GeneratorError) -> VarlinkType? {
        if let type = base.types[name] { return type }
        for (method, declared) in base.methods
        where try Annotations(base.comments[method], at: method)["parameters"] == name {
            return .structure(declared.parameters)
        }
        return nil
    }

    private func enumeration(
        _ name: String, _ documentation: [String], _ cases: [String], at place: String
    ) throws(GeneratorError) {
        text.documentation(documentation)
        try text.block("public enum \(name): String, Codable, Hashable, Sendable, CaseIterable") {
            () throws(GeneratorError) in
            for value in cases {
                let own = try annotations(place + value)
                text.documentation(own.text)
                let swift = own["name"] ?? swiftName(value)
                text.line("case \(declared(swift))" + (swift == value ? "" : " = \"\(value)\""))
            }
        }
    }

    /// Enumerations that fields name by `@type`: once each.
    func declareEnumerations() throws(GeneratorError) {
        for (name, cases, place) in enumerations {
            text.line()
            let own = try annotations(place)
            let parts = name.split(separator: ".").map(String.init)
            guard parts.count == 2 else {
                try enumeration(name, own.text, cases, at: place + ".")
                continue
            }
            try text.block("extension \(parts[0])") { () throws(GeneratorError) in
                try enumeration(parts[1], own.text, cases, at: place + ".")
            }
        }
    }

    struct Field {
        var wire: String
        var name: String
        /// Without the “?”.
        var type: String
        var isOptional: Bool
        var range: String?
        var derivation: String?
        /// What the initialiser takes where it is given nothing.
        var standard: String?
        var documentation: [String]

        var declaredType: String { type + (isOptional ? "?" : "") }
    }

    func fields(_ fields: [VarlinkField], at place: String) throws(GeneratorError) -> [Field] {
        var result: [Field] = []
        for field in fields {
            let here = place + field.name
            let own = try annotations(here)
            let rule = rules.first { $0.applies(to: field.name) }
            var type = field.type
            var isOptional = false
            if case .optional(let wrapped) = type {
                type = wrapped
                isOptional = true
            }
            let list = own["list"]
            let swift = if let list { list } else { try swiftType(type, own["type"], rule, at: here) }
            let standard = own["default"] ?? (isOptional ? "nil" : "none")
            result.append(
                Field(
                    wire: field.name, name: own["name"] ?? swiftName(field.name), type: swift, isOptional: isOptional,
                    range: own["type"] == nil && type == .int ? rule?.range : nil, derivation: rule?.derivation,
                    standard: standard == "none" ? nil : standard, documentation: own.text))
        }
        return result
    }

    private func swiftType(
        _ type: VarlinkType, _ wanted: String?, _ rule: FieldRule?, at place: String
    ) throws(GeneratorError) -> String {
        switch type {
        case .array(let element): return "[" + (try swiftType(element, wanted, rule, at: place)) + "]"
        case .named(let name):
            if let wanted { return wanted }
            if try annotations(name).has("same"), let base {
                return try Annotations(base.comments[name], at: name)["swift"] ?? name
            }
            return try annotations(name)["swift"] ?? name
        case .enumeration(let cases):
            guard let wanted else {
                throw GeneratorError(place: place, reason: "an enumeration without a name needs @type")
            }
            if let known = enumerations.first(where: { $0.name == wanted }) {
                guard known.cases == cases else {
                    throw GeneratorError(place: place, reason: "its cases are not those of \(wanted) at \(known.place)")
                }
            } else if !terms.contains(wanted), try !isDeclared(wanted, cases, at: place) {
                enumerations.append((wanted, cases, place))
            }
            return wanted
        case .bool: return wanted ?? "Bool"
        case .float: return wanted ?? "Double"
        case .string: return wanted ?? "String"
        case .int:
            guard let swift = wanted ?? rule?.type else {
                throw GeneratorError(place: place, reason: "a number needs a Swift type by @field or @type")
            }
            return swift
        case .structure, .map, .object, .any, .optional:
            throw GeneratorError(place: place, reason: "only a named type can stand here")
        }
    }

    /// Whether a type of this interface or of the base is this enumeration, or a field of the base.
    private func isDeclared(_ swift: String, _ cases: [String], at place: String) throws(GeneratorError) -> Bool {
        for interface in [interface, base].compactMap({ $0 }) {
            for (name, type) in interface.types {
                let own = try Annotations(interface.comments[name], at: name)
                guard case .enumeration(let declared) = type, (own["swift"] ?? name) == swift else { continue }
                guard declared == cases else {
                    throw GeneratorError(place: place, reason: "its cases are not those of \(name)")
                }
                return true
            }
        }
        guard let base else { return false }
        for (place, lines) in base.comments where try Annotations(lines, at: place)["type"] == swift { return true }
        return false
    }

    /// - Parameter checks: whether numbers must lie in their ranges when they are read. Those of a method's parameters
    ///   need not: the service checks them and answers InvalidField, which names the field, the value and the limit.
    private func structure(
        _ name: String, _ documentation: [String], _ declared: [VarlinkField], at place: String, checks: Bool = true
    ) throws(GeneratorError) {
        var fields = try fields(declared, at: place)
        if !checks { for index in fields.indices { fields[index].range = nil } }
        text.documentation(documentation)
        try text.block("public struct \(name): Codable, Hashable, Sendable") { () throws(GeneratorError) in
            for field in fields {
                text.documentation(field.documentation)
                text.line("public var \(field.name): \(field.declaredType)")
            }
            text.line()
            let taken = fields.filter { $0.derivation == nil }
            text.list(
                "public init",
                taken.map { "\($0.name): \($0.declaredType)" + ($0.standard.map { " = " + $0 } ?? "") }, " {")
            for field in fields { text.line("    self.\(field.name) = \(field.derivation ?? field.name)") }
            text.line("}")
            if fields.contains(where: { $0.range != nil }) { try decoder(fields) }
            guard fields.contains(where: { $0.range != nil || $0.name != $0.wire }) else { return }
            text.line()
            try text.block("enum CodingKeys: String, CodingKey") { () throws(GeneratorError) in
                for field in fields {
                    text.line("case \(field.name)" + (field.name == field.wire ? "" : " = \"\(field.wire)\""))
                }
            }
        }
    }

    /// Numbers are checked while they are read, so that no later sum of them can overflow.
    private func decoder(_ fields: [Field]) throws(GeneratorError) {
        text.line()
        try text.block("public init(from decoder: any Decoder) throws") { () throws(GeneratorError) in
            text.line("let fields = try decoder.container(keyedBy: CodingKeys.self)")
            for field in fields {
                let call = field.isOptional ? "decodeIfPresent" : "decode"
                let range = field.range.map { ", in: \($0)" } ?? ""
                text.line("\(field.name) = try fields.\(call)(\(field.type).self, forKey: .\(field.name)\(range))")
            }
        }
    }
}

extension VarlinkInterface {
    /// A type with every name replaced by what it stands for.
    func expanded(_ type: VarlinkType) -> VarlinkType {
        switch type {
        case .named(let name): types[name].map(expanded) ?? type
        case .optional(let wrapped): .optional(expanded(wrapped))
        case .array(let element): .array(expanded(element))
        case .map(let element): .map(expanded(element))
        case .structure(let fields): .structure(fields.map { VarlinkField($0.name, expanded($0.type)) })
        case .bool, .int, .float, .string, .object, .any, .enumeration: type
        }
    }
}
