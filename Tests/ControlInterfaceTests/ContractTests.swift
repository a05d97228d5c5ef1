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
    func method<P: Codable & SendableMetatype, R: Codable & SendableMetatype>(
        _ interface: VarlinkInterface, _ name: String, _ parameters: P.Type, _ reply: R.Type
    ) -> [Contract] {
        [
            Contract(
                "\(interface.name).\(name) parameters", interface, interface.methods[name]?.parameters, parameters),
            Contract("\(interface.name).\(name) reply", interface, interface.methods[name]?.reply, reply),
        ]
    }
    typealias M = ManagerInterface
    typealias H = HolderInterface
    return [
        method(manager, "Check", NoParameters.self, M.Check.Reply.self),
        method(manager, "Create", M.Create.Parameters.self, M.Create.Reply.self),
        method(manager, "Attach", M.Attach.Parameters.self, M.Attach.Reply.self),
        method(manager, "List", NoParameters.self, M.List.Reply.self),
        method(manager, "Show", M.Show.Parameters.self, M.Show.Reply.self),
        method(manager, "Convert", M.Convert.Parameters.self, M.Convert.Reply.self),
        method(manager, "Map", M.Map.Parameters.self, M.Map.Reply.self),
        method(manager, "MapChanges", M.MapChanges.Parameters.self, M.MapChanges.Reply.self),
        method(manager, "Conversions", M.Conversions.Parameters.self, M.Conversions.Reply.self),
        method(manager, "Stop", M.Stop.Parameters.self, M.Stop.Reply.self),
        method(manager, "Reclaim", M.Reclaim.Parameters.self, M.Reclaim.Reply.self),
        method(manager, "PlanStop", M.PlanStop.Parameters.self, M.PlanStop.Reply.self),
        method(manager, "ListCertificates", NoParameters.self, M.ListCertificates.Reply.self),
        method(manager, "GetCertificate", M.GetCertificate.Parameters.self, M.GetCertificate.Reply.self),
        method(manager, "GetKeys", NoParameters.self, M.GetKeys.Reply.self),
        method(manager, "Verify", M.Verify.Parameters.self, M.Verify.Reply.self),
        method(manager, "Drain", M.Drain.Parameters.self, M.Drain.Reply.self),
        method(manager, "GetDrain", NoParameters.self, M.GetDrain.Reply.self),
        method(manager, "Undrain", NoParameters.self, M.Undrain.Reply.self),
        method(manager, "CheckKexec", NoParameters.self, M.CheckKexec.Reply.self),
        method(manager, "Inventory", M.Inventory.Parameters.self, M.Inventory.Reply.self),
        method(manager, "SelfTest", NoParameters.self, M.SelfTest.Reply.self),
        method(holder, "Build", H.Build.Parameters.self, H.Build.Reply.self),
        method(holder, "Describe", NoParameters.self, H.Describe.Reply.self),
        method(holder, "Convert", H.Convert.Parameters.self, H.Convert.Reply.self),
        method(holder, "Map", NoParameters.self, H.Map.Reply.self),
        method(holder, "MapChanges", H.MapChanges.Parameters.self, H.MapChanges.Reply.self),
        method(holder, "Conversions", H.Conversions.Parameters.self, H.Conversions.Reply.self),
        method(holder, "Verify", H.Verify.Parameters.self, H.Verify.Reply.self),
        method(holder, "GetBacking", NoParameters.self, H.GetBacking.Reply.self),
        method(holder, "PlanStop", H.PlanStop.Parameters.self, H.PlanStop.Reply.self),
        method(holder, "Stop", H.Stop.Parameters.self, H.Stop.Reply.self),
        method(holder, "Reclaim", H.Reclaim.Parameters.self, H.Reclaim.Reply.self),
        method(holder, "SetPace", H.SetPace.Parameters.self, NoParameters.self),
        method(holder, "GetFigures", NoParameters.self, NoParameters.self),
        method(holder, "GetPrivateRanges", NoParameters.self, H.GetPrivateRanges.Reply.self),
    ].flatMap { $0 }
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
    for field in fields { object[field.name] = sample(field.type, in: interface, variant: variant, full: full) }
    return .object(object)
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
        let covered = Set(contracts.map { $0.testDescription.split(separator: " ")[0] }.map(String.init))
        for interface in [manager, holder] {
            for name in interface.methods.keys { #expect(covered.contains("\(interface.name).\(name)")) }
        }
        #expect(covered.count == manager.methods.count + holder.methods.count)
    }

    @Test func `method constants name declared methods`() {
        for name in [
            ManagerInterface.Check.method, ManagerInterface.Create.method, ManagerInterface.List.method,
            ManagerInterface.Show.method, ManagerInterface.Convert.method, ManagerInterface.Map.method,
            ManagerInterface.Stop.method, ManagerInterface.SelfTest.method, ManagerInterface.ListCertificates.method,
            ManagerInterface.GetCertificate.method, ManagerInterface.GetKeys.method, ManagerInterface.Verify.method,
            ManagerInterface.PlanStop.method, ManagerInterface.Conversions.method,
        ] {
            #expect(manager.methods.keys.contains { "io.tdxd.Manager." + $0 == name })
        }
        for name in [
            HolderInterface.Build.method, HolderInterface.Describe.method, HolderInterface.Convert.method,
            HolderInterface.Map.method, HolderInterface.GetBacking.method, HolderInterface.Stop.method,
            HolderInterface.Verify.method, HolderInterface.PlanStop.method, HolderInterface.Conversions.method,
        ] {
            #expect(holder.methods.keys.contains { "io.tdxd.Holder." + $0 == name })
        }
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
