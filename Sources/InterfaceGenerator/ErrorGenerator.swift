internal import Varlink

extension InterfaceGenerator {
    /// The errors of the interface as one enum, with their coding.
    /// - Throws: `GeneratorError` for a parameter that cannot be written.
    public func errors() throws(GeneratorError) -> String {
        begin()
        text.line("// Written by scripts/generate-interfaces; changes belong into the .varlink file.")
        text.line()
        text.line("public import Varlink")
        text.line()
        var errors: [(name: String, documentation: [String], fields: [Field])] = []
        for name in interface.order {
            guard let declared = interface.errors[name] else { continue }
            errors.append((name, try annotations(name).text, try fields(declared, at: name + ".")))
        }
        text.documentation([
            "The errors of `io.tdxd.Manager` and `io.tdxd.Holder`, as values.",
            "Both interfaces share them by short name; the holder has fewer.",
        ])
        try text.block("public enum ControlError: Error, Sendable, Hashable") { () throws(GeneratorError) in
            for error in errors {
                text.documentation(error.documentation)
                text.list(
                    "case \(swiftName(error.name))", error.fields.map { "\($0.name): \($0.declaredType)" }, "")
            }
            text.documentation([
                "An error that this program does not know, or one of the standard ones of `org.varlink.service`."
            ])
            text.line("case other(name: String, message: String)")
        }
        text.line()
        try text.block("extension ControlError") { () throws(GeneratorError) in
            text.line("/// The error as an answer on the wire.")
            try text.block("public func reply(on kind: ControlInterfaceKind) -> VarlinkErrorReply") {
                () throws(GeneratorError) in
                text.line("switch self {")
                for error in errors {
                    let names = error.fields.map(\.name)
                    text.list("case .\(swiftName(error.name))", names.map { "let \($0)" }, ":")
                    text.line("    VarlinkErrorReply(")
                    text.list(
                        "        kind.name + \".\(error.name)\", Wire.\(error.name)", names.map { "\($0): \($0)" }, ")")
                }
                text.line("case .other(let name, let message): VarlinkErrorReply(name, Wire.Message(message: message))")
                text.line("}")
            }
            text.line()
            text.line("/// The value of an error of one of the two interfaces; nil for a name that is not declared.")
            text.line("/// - Throws: a `DecodingError` for parameters that are not as declared.")
            try text.block("static func known(_ reply: VarlinkErrorReply) throws -> ControlError?") {
                () throws(GeneratorError) in
                text.line("switch reply.shortName {")
                for error in errors {
                    text.line("case \"\(error.name)\":")
                    text.line("    let fields = try reply.parameters(as: Wire.\(error.name).self)")
                    text.list(
                        "    return .\(swiftName(error.name))", error.fields.map { "\($0.name): fields.\($0.name)" }, ""
                    )
                }
                text.line("default: return nil")
                text.line("}")
            }
        }
        text.line()
        text.line("/// The errors' parameters, as the interface files declare them.")
        try text.block("private enum Wire") { () throws(GeneratorError) in
            text.line("struct Message: Codable { var message: String }")
            for error in errors {
                try text.block("struct \(error.name): Codable") { () throws(GeneratorError) in
                    for field in error.fields { text.line("var \(field.name): \(field.declaredType)") }
                    guard error.fields.contains(where: { $0.name != $0.wire }) else { return }
                    try text.block("enum CodingKeys: String, CodingKey") { () throws(GeneratorError) in
                        for field in error.fields {
                            text.line("case \(field.name)" + (field.name == field.wire ? "" : " = \"\(field.wire)\""))
                        }
                    }
                }
            }
        }
        try declareEnumerations()
        return text.lines.joined(separator: "\n") + "\n"
    }
}
