internal import ArgumentParser
internal import ControlInterface
internal import FoundationEssentials
internal import Varlink

/// What `--json=` takes.
enum JSONMode: String, CaseIterable, ExpressibleByArgument {
    case pretty
    case short
    case off
}

/// A value as one JSON document with a line feed behind it.
func json(_ value: some Encodable, _ mode: JSONMode) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    if mode == .pretty { encoder.outputFormatting.insert(.prettyPrinted) }
    do {
        return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
    } catch {
        preconditionFailure("\(error)")
    }
}

/// A reply of the manager's as JSON in which every declared field is there: what has no value is null, so that a reader
/// finds the same keys every time.
func completed(_ value: some Encodable, as typeName: String) -> JSONValue {
    do {
        let interface = try VarlinkInterface(parsing: InterfaceDescription.manager)
        let plain = try JSONDecoder().decode(JSONValue.self, from: try JSONEncoder().encode(value))
        return interface.filled(plain, .named(typeName))
    } catch {
        preconditionFailure("\(error)")
    }
}

/// A whole reply of one of the manager's methods, likewise.
func completedReply(_ value: some Encodable, of method: String) -> JSONValue {
    do {
        let interface = try VarlinkInterface(parsing: InterfaceDescription.manager)
        let plain = try JSONDecoder().decode(JSONValue.self, from: try JSONEncoder().encode(value))
        guard let fields = interface.methods[method]?.reply else { preconditionFailure("no method \(method)") }
        return interface.filled(plain, .structure(fields))
    } catch {
        preconditionFailure("\(error)")
    }
}

extension VarlinkInterface {
    fileprivate func filled(_ value: JSONValue, _ type: VarlinkType) -> JSONValue {
        switch (resolve(type), value) {
        case (.structure(let fields), .object(var object)):
            for field in fields { object[field.name] = filled(object[field.name] ?? .null, field.type) }
            return .object(object)
        case (.array(let element), .array(let values)): return .array(values.map { filled($0, element) })
        case (.optional(let wrapped), .object), (.optional(let wrapped), .array): return filled(value, wrapped)
        default: return value
        }
    }
}

/// An error as JSON, for programs that read standard error.
struct FailureRecord: Encodable {
    var error: String
    var message: String
    var hint: String?

    init(_ failure: Failure) {
        error = failure.code
        message = failure.message
        hint = failure.hint
    }
}
