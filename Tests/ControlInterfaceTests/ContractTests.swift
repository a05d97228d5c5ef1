import FoundationEssentials
import Testing
import Varlink

@testable import ControlInterface

private struct Contract: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var interface: VarlinkInterface
    var fields: [VarlinkField]
    var roundTrip: @Sendable (JSONValue) throws -> JSONValue

    init<Value: Codable & SendableMetatype>(
        _ name: String, _ interface: VarlinkInterface, _ fields: [VarlinkField]?, _: Value.Type
    ) {
        testDescription = name
        self.interface = interface
        self.fields = fields ?? [VarlinkField("the interface file does not declare it", .any)]
        roundTrip = { value in
            let decoded = try JSONDecoder().decode(Value.self, from: try JSONEncoder().encode(value))
            return try JSONDecoder().decode(JSONValue.self, from: try JSONEncoder().encode(decoded))
        }
    }
}

private let manager = parsed(InterfaceDescription.manager)
private let holder = parsed(InterfaceDescription.holder)

private func parsed(_ text: String) -> VarlinkInterface {
    do { return try VarlinkInterface(parsing: text) } catch { preconditionFailure("\(error)") }
}

private let contracts: [Contract] = {
    func contracts<Method: ControlMethod>(_: Method.Type, _ interface: VarlinkInterface, _ name: String) -> [Contract] {
        let declared = interface.methods[name]
        return [
            Contract("\(Method.method) parameters", interface, declared?.parameters, Method.Parameters.self),
            Contract("\(Method.method) reply", interface, declared?.reply, Method.Reply.self),
        ]
    }
    return ManagerInterface.Method.allCases.flatMap { contracts($0.type, manager, $0.rawValue) }
        + HolderInterface.Method.allCases.flatMap { contracts($0.type, holder, $0.rawValue) }
}()

/// A value of a declared type. `variant` chooses among the cases of enumerations; `full` fills what is optional.
private func sample(_ type: VarlinkType, in interface: VarlinkInterface, variant: Int, full: Bool) -> JSONValue? {
    switch interface.resolve(type) {
    case .bool: .bool(variant % 2 == 0)
    case .int: .int(Int64(variant + 1))
    case .float: .double(Double(variant) + 0.5)
    case .string: .string("text \(variant)")
    case .object, .any, .named: .object([:])
    case .optional(let wrapped): full ? sample(wrapped, in: interface, variant: variant, full: full) : nil
    case .array(let element): .array([sample(element, in: interface, variant: variant, full: full)!])
    case .map(let element): .object(["key": sample(element, in: interface, variant: variant, full: full)!])
    case .structure(let fields): sample(fields, in: interface, variant: variant, full: full)
    case .enumeration(let cases): .string(cases[variant % cases.count])
    }
}

private func sample(_ fields: [VarlinkField], in interface: VarlinkInterface, variant: Int, full: Bool) -> JSONValue {
    var object: [String: JSONValue] = [:]
    for field in fields {
        let value = sample(field.type, in: interface, variant: variant, full: full)
        object[field.name] = value.map { checked(field, $0, variant) }
    }
    return .object(object)
}

/// A value that the term of a field of this name accepts.
private func checked(_ field: VarlinkField, _ value: JSONValue, _ variant: Int) -> JSONValue {
    switch (field.name, value) {
    case ("name", .string), ("certificate", .string): .string("td-\(variant)")
    case ("id", .string): .string(String(repeating: "0\(variant)", count: 16))
    case ("mrconfigid", .string), ("mrowner", .string), ("mrownerconfig", .string):
        .string(String(repeating: "a\(variant)", count: 48))
    case ("firmware", .string): .string("/firmware-\(variant)")
    case ("policy", .string) where !field.type.isEnumeration:
        .string(StopPolicy.allCases[variant % StopPolicy.allCases.count].rawValue)
    case ("wait", .string): .string(StopWait.allCases[variant % StopWait.allCases.count].rawValue)
    case ("memory_bytes", .int), ("bytes", .int), ("gpa", .int): .int(4096 * Int64(variant + 1))
    case ("chunk_bytes", .int), ("release_chunk_bytes", .int), ("shard_minimum_bytes", .int):
        .int((2 << 20) * Int64(variant + 1))
    case ("bytes_per_second", .int), ("deadline_ms", .int): .int((1 << 20) + Int64(variant))
    case ("window_ms", .int): .int(100 + Int64(variant))
    default: value
    }
}

extension VarlinkType {
    fileprivate var isEnumeration: Bool {
        switch self {
        case .enumeration: true
        case .optional(let wrapped): wrapped.isEnumeration
        default: false
        }
    }
}

/// Every way to leave one required field out, at any depth.
private func mutilations(
    of value: JSONValue, _ type: VarlinkType, in interface: VarlinkInterface, path: String = ""
) -> [(path: String, value: JSONValue)] {
    switch (interface.resolve(type), value) {
    case (.structure(let fields), .object(let object)):
        var result: [(String, JSONValue)] = []
        for field in fields {
            guard let inner = object[field.name] else { continue }
            let here = path + "." + field.name
            if case .optional = interface.resolve(field.type) {
            } else {
                var without = object
                without[field.name] = nil
                result.append((here, .object(without)))
            }
            for (path, mutilated) in mutilations(of: inner, field.type, in: interface, path: here) {
                var changed = object
                changed[field.name] = mutilated
                result.append((path, .object(changed)))
            }
        }
        return result
    case (.optional(let wrapped), _): return mutilations(of: value, wrapped, in: interface, path: path)
    case (.array(let element), .array(let values)):
        return mutilations(of: values[0], element, in: interface, path: path + "[0]").map { ($0, .array([$1])) }
    default: return []
    }
}

@Suite struct `The Swift types agree with the interface files` {
    @Test(arguments: contracts)
    fileprivate func `every declared field survives a round trip, whatever its case`(_ contract: Contract) throws {
        // No enumeration has more cases than this.
        for variant in 0..<8 {
            for full in [true, false] {
                let value = sample(contract.fields, in: contract.interface, variant: variant, full: full)
                #expect(try contract.roundTrip(value) == value)
            }
        }
    }

    @Test(arguments: contracts)
    fileprivate func `what the file requires the type requires`(_ contract: Contract) throws {
        let value = sample(contract.fields, in: contract.interface, variant: 0, full: true)
        for (path, mutilated) in mutilations(of: value, .structure(contract.fields), in: contract.interface) {
            #expect(throws: DecodingError.self, "\(path) was left out") { try contract.roundTrip(mutilated) }
        }
    }

    @Test func `every method has its types`() {
        #expect(Set(ManagerInterface.Method.allCases.map(\.rawValue)) == Set(manager.methods.keys))
        #expect(Set(HolderInterface.Method.allCases.map(\.rawValue)) == Set(holder.methods.keys))
        #expect(
            ManagerInterface.Method.allCases.map { $0.type.method }
                == ManagerInterface.Method.allCases.map {
                    manager.name + "." + $0.rawValue
                })
        #expect(
            HolderInterface.Method.allCases.map { $0.type.method }
                == HolderInterface.Method.allCases.map {
                    holder.name + "." + $0.rawValue
                })
    }

    @Test(arguments: [
        #"{"gpa":0,"bytes":9223372036854775807,"attribute":"private"}"#,
        #"{"gpa":4503599627370497,"bytes":4096,"attribute":"private"}"#,
        #"{"gpa":-4096,"bytes":4096,"attribute":"private"}"#,
    ])
    func `a size or address beyond 2^52 does not decode`(_ text: String) {
        #expect(throws: DecodingError.self) { try JSONDecoder().decode(MemoryRun.self, from: Data(text.utf8)) }
    }
}

private let everyError: [ControlError] = [
    .invalidField(field: "vcpus", value: "0", limit: "1 … 64"), .noSuchDomain(name: "a"),
    .noSuchCertificate(certificate: "c"), .nameTaken(name: "b"),
    .notPermitted(needed: "operate", reason: "uid 7"),
    .insufficientMemory(neededBytes: 1 << 62, availableBytes: 2, limit: "MemAvailable"),
    .limitReached(resource: .trustDomains, needed: 1, available: 0, limit: "as configured"),
    .limitReached(resource: .descriptors, needed: 6, available: 2, limit: "RLIMIT_NOFILE 1024 of tdxd"),
    .limitReached(resource: .disk, needed: 1 << 20, available: 7, limit: "free bytes of /var/lib/tdxd"),
    .noKeyAvailable(capacity: 15, inUse: 15), .firmwareRejected(path: "/f", reason: "is a directory"),
    .kernelRefused(
        operation: "KVM_CREATE_VM", errno: 12, errnoName: "ENOMEM", tdxStatus: "0xc000030000000001", detail: "x"),
    .kernelRefused(operation: "KVM_RUN", errno: 4, errnoName: "EINTR", tdxStatus: nil, detail: ""),
    .conversionIncomplete(gpa: 0x1000, doneBytes: 4096, bytes: 8192, reason: "r"),
    .wrongState(name: "n", state: "stopping", operation: "convert"), .holderFailed(name: "n", reason: "died"),
    .tryAgain(reason: "draining"),
]

@Suite struct `Errors on the wire` {
    @Test(arguments: everyError)
    func `an error comes back as it went`(_ error: ControlError) {
        #expect(ControlError(error.reply(on: .manager)) == error)
        #expect(ControlError(error.reply(on: .holder)) == error)
    }

    @Test(arguments: everyError)
    func `an error's parameters are as declared`(_ error: ControlError) throws {
        for (kind, interface) in [(ControlInterfaceKind.manager, manager), (.holder, holder)] {
            let reply = error.reply(on: kind)
            #expect(reply.interface == interface.name)
            guard let fields = interface.errors[reply.shortName] else {
                #expect(kind == .holder, "\(reply.name) is not declared")
                continue
            }
            try interface.check(try reply.parameters(as: [String: JSONValue].self), against: fields)
        }
    }

    @Test func `every declared error has a value`() {
        let known = Set(everyError.map { $0.reply(on: .manager).shortName })
        #expect(known == Set(manager.errors.keys))
        #expect(Set(holder.errors.keys).isSubset(of: known))
    }

    @Test func `an unknown error keeps its name`() {
        let foreign = VarlinkErrorReply("io.tdxd.Manager.FromTheFuture", ["reason": "because"])
        #expect(ControlError(foreign) == .other(name: "io.tdxd.Manager.FromTheFuture", message: "because"))
        let standard = ServiceError.invalidParameter("vcpus", reason: "must be a whole number")
        #expect(
            ControlError(standard)
                == .other(name: "org.varlink.service.InvalidParameter", message: "vcpus: must be a whole number"))
        // Known by name, but without its parameters.
        let broken = VarlinkErrorReply("io.tdxd.Manager.NameTaken", ["other": 1])
        #expect(ControlError(broken) == .other(name: "io.tdxd.Manager.NameTaken", message: ""))
    }
}
