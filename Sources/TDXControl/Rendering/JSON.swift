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

/// A value as one JSON document, followed by a line feed. Characters that a terminal acts upon, or that change the order in which
/// others are shown, are escaped.
func json(_ value: some Encodable, _ mode: JSONMode) -> String {
    let encoder = plainEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    if mode == .pretty { encoder.outputFormatting.insert(.prettyPrinted) }
    do {
        return escapingControls(String(decoding: try encoder.encode(value), as: UTF8.self)) + "\n"
    } catch {
        // Values of ours are plain data, and numbers that are none are encoded as text.
        return "null\n"
    }
}

/// JSON has no number for what is infinite or none, and a server may send one that becomes so.
private func plainEncoder() -> JSONEncoder {
    let encoder = JSONEncoder()
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
        positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    return encoder
}

/// JSON with the characters escaped that JSON itself does not require to be: they are in its strings alone.
private func escapingControls(_ json: String) -> String {
    guard json.unicodeScalars.contains(where: { $0 != "\n" && isControl($0) }) else { return json }
    var result = ""
    for scalar in json.unicodeScalars {
        guard scalar != "\n", isControl(scalar) else {
            result.unicodeScalars.append(scalar)
            continue
        }
        for unit in UTF16.encode(scalar)?.map({ $0 }) ?? [] {
            let digits = String(unit, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        }
    }
    return result
}

/// Parsed once: a list has many rows.
private let managerInterface = Result { try VarlinkInterface(parsing: InterfaceDescription.manager) }

/// A reply of the manager's as JSON in which every declared field is there: what has no value is null, so that a reader
/// finds the same keys every time.
func completed(_ value: some Encodable, as typeName: String) -> JSONValue {
    do {
        let interface = try managerInterface.get()
        let plain = try JSONDecoder().decode(JSONValue.self, from: try plainEncoder().encode(value))
        return interface.filled(plain, .named(typeName))
    } catch {
        return .null
    }
}

/// A value as it is encoded, for an array of several.
func plainDocument(_ value: some Encodable) -> JSONValue {
    (try? JSONDecoder().decode(JSONValue.self, from: try plainEncoder().encode(value))) ?? .null
}

/// A whole reply of one of the manager's methods, likewise.
func completedReply(_ value: some Encodable, of method: String) -> JSONValue {
    do {
        let interface = try managerInterface.get()
        let plain = try JSONDecoder().decode(JSONValue.self, from: try plainEncoder().encode(value))
        guard let fields = interface.methods[method]?.reply else { return plain }
        return interface.filled(plain, .structure(fields))
    } catch {
        return .null
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
