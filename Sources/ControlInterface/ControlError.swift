public import Varlink

/// The errors of `io.tdxd.Manager` and `io.tdxd.Holder`, as values. Both interfaces share them by short name; the
/// holder has fewer.
public enum ControlError: Error, Sendable, Hashable {
    /// `field` had `value`, and `limit` says what it may be.
    case invalidField(field: String, value: String, limit: String)
    case noSuchDomain(name: String)
    /// `certificate` is the id or the name that was asked for.
    case noSuchCertificate(certificate: String)
    case nameTaken(name: String)
    /// `needed` is the role or identity that the call takes.
    case notPermitted(needed: String, reason: String)
    /// `limit` names whose limit it is, such as `MemAvailable`.
    case insufficientMemory(neededBytes: UInt64, availableBytes: UInt64, limit: String)
    case noKeyAvailable(capacity: Int, inUse: Int)
    /// Something else that a TD takes is used up: of `resource`, in its unit, `needed` are needed and `available` are there,
    /// and `limit` says whose limit that is.
    case limitReached(resource: LimitedResource, needed: UInt64, available: UInt64, limit: String)
    case firmwareRejected(path: String, reason: String)
    /// `tdxStatus` is the 64-bit completion status in hexadecimal, where there is one.
    case kernelRefused(operation: String, errno: Int32, errnoName: String, tdxStatus: String?, detail: String)
    /// The first `doneBytes` from `gpa` on are converted, the rest is as it was.
    case conversionIncomplete(gpa: UInt64, doneBytes: UInt64, bytes: UInt64, reason: String)
    case wrongState(name: String, state: String, operation: String)
    case holderFailed(name: String, reason: String)
    case tryAgain(reason: String)
    /// An error that this program does not know, or one of the standard ones of `org.varlink.service`.
    case other(name: String, message: String)
}

/// What a TD takes of its host beside memory and a key id. The raw values are those on the wire.
public enum LimitedResource: String, Codable, Hashable, Sendable, CaseIterable {
    /// TDs, as configured.
    case trustDomains = "tds"
    /// Bytes of the state directory.
    case disk
    /// File descriptors of tdxd.
    case descriptors
    /// Places in the queue of creations.
    case waitingCreations = "waiting_creations"
}

/// Which interface an error goes out on.
public enum ControlInterfaceKind: Sendable {
    case manager, holder

    var name: String { self == .manager ? InterfaceName.manager : InterfaceName.holder }
}

extension ControlError {
    /// The error as an answer on the wire.
    public func reply(on kind: ControlInterfaceKind) -> VarlinkErrorReply {
        func make(_ shortName: String, _ parameters: some Encodable & Sendable) -> VarlinkErrorReply {
            VarlinkErrorReply(kind.name + "." + shortName, parameters)
        }
        switch self {
        case .invalidField(let field, let value, let limit):
            return make("InvalidField", Wire.InvalidField(field: field, value: value, limit: limit))
        case .noSuchDomain(let name): return make("NoSuchDomain", Wire.Name(name: name))
        case .noSuchCertificate(let certificate):
            return make("NoSuchCertificate", Wire.Certificate(certificate: certificate))
        case .nameTaken(let name): return make("NameTaken", Wire.Name(name: name))
        case .notPermitted(let needed, let reason):
            return make("NotPermitted", Wire.NotPermitted(needed: needed, reason: reason))
        case .insufficientMemory(let needed, let available, let limit):
            return make(
                "InsufficientMemory",
                Wire.InsufficientMemory(neededBytes: needed, availableBytes: available, limit: limit))
        case .noKeyAvailable(let capacity, let inUse):
            return make("NoKeyAvailable", Wire.NoKeyAvailable(capacity: capacity, inUse: inUse))
        case .limitReached(let resource, let needed, let available, let limit):
            return make(
                "LimitReached",
                Wire.LimitReached(resource: resource, needed: needed, available: available, limit: limit))
        case .firmwareRejected(let path, let reason):
            return make("FirmwareRejected", Wire.FirmwareRejected(path: path, reason: reason))
        case .kernelRefused(let operation, let errno, let errnoName, let tdxStatus, let detail):
            return make(
                "KernelRefused",
                Wire.KernelRefused(
                    operation: operation, errno: errno, errnoName: errnoName, tdxStatus: tdxStatus, detail: detail))
        case .conversionIncomplete(let gpa, let doneBytes, let bytes, let reason):
            return make(
                "ConversionIncomplete",
                Wire.ConversionIncomplete(gpa: gpa, doneBytes: doneBytes, bytes: bytes, reason: reason))
        case .wrongState(let name, let state, let operation):
            return make("WrongState", Wire.WrongState(name: name, state: state, operation: operation))
        case .holderFailed(let name, let reason):
            return make("HolderFailed", Wire.HolderFailed(name: name, reason: reason))
        case .tryAgain(let reason): return make("TryAgain", Wire.Reason(reason: reason))
        case .other(let name, let message): return VarlinkErrorReply(name, Wire.Message(message: message))
        }
    }

    /// The value of an error that came over the wire. One that is not known, or whose parameters are not as
    /// declared, becomes `other` and keeps its name.
    public init(_ reply: VarlinkErrorReply) {
        let known = [InterfaceName.manager, InterfaceName.holder].contains(reply.interface)
        self = (known ? try? Self.known(reply) : nil) ?? .other(name: reply.name, message: Self.message(of: reply))
    }

    private static func known(_ reply: VarlinkErrorReply) throws -> ControlError? {
        switch reply.shortName {
        case "InvalidField":
            let p = try reply.parameters(as: Wire.InvalidField.self)
            return .invalidField(field: p.field, value: p.value, limit: p.limit)
        case "NoSuchDomain": return .noSuchDomain(name: try reply.parameters(as: Wire.Name.self).name)
        case "NoSuchCertificate":
            return .noSuchCertificate(certificate: try reply.parameters(as: Wire.Certificate.self).certificate)
        case "NameTaken": return .nameTaken(name: try reply.parameters(as: Wire.Name.self).name)
        case "NotPermitted":
            let p = try reply.parameters(as: Wire.NotPermitted.self)
            return .notPermitted(needed: p.needed, reason: p.reason)
        case "InsufficientMemory":
            let p = try reply.parameters(as: Wire.InsufficientMemory.self)
            return .insufficientMemory(neededBytes: p.neededBytes, availableBytes: p.availableBytes, limit: p.limit)
        case "NoKeyAvailable":
            let p = try reply.parameters(as: Wire.NoKeyAvailable.self)
            return .noKeyAvailable(capacity: p.capacity, inUse: p.inUse)
        case "LimitReached":
            let p = try reply.parameters(as: Wire.LimitReached.self)
            return .limitReached(resource: p.resource, needed: p.needed, available: p.available, limit: p.limit)
        case "FirmwareRejected":
            let p = try reply.parameters(as: Wire.FirmwareRejected.self)
            return .firmwareRejected(path: p.path, reason: p.reason)
        case "KernelRefused":
            let p = try reply.parameters(as: Wire.KernelRefused.self)
            return .kernelRefused(
                operation: p.operation, errno: p.errno, errnoName: p.errnoName, tdxStatus: p.tdxStatus,
                detail: p.detail)
        case "ConversionIncomplete":
            let p = try reply.parameters(as: Wire.ConversionIncomplete.self)
            return .conversionIncomplete(gpa: p.gpa, doneBytes: p.doneBytes, bytes: p.bytes, reason: p.reason)
        case "WrongState":
            let p = try reply.parameters(as: Wire.WrongState.self)
            return .wrongState(name: p.name, state: p.state, operation: p.operation)
        case "HolderFailed":
            let p = try reply.parameters(as: Wire.HolderFailed.self)
            return .holderFailed(name: p.name, reason: p.reason)
        case "TryAgain": return .tryAgain(reason: try reply.parameters(as: Wire.Reason.self).reason)
        default: return nil
        }
    }

    /// What a foreign error says for people: the standard errors' one parameter, or a message of our own.
    private static func message(of reply: VarlinkErrorReply) -> String {
        guard let fields = try? reply.parameters(as: Wire.Foreign.self) else { return "" }
        let subject = fields.parameter ?? fields.method ?? fields.interface
        return [subject, fields.reason ?? fields.message].compactMap(\.self).joined(separator: ": ")
    }
}

/// The errors' parameters, as the interface files declare them.
private enum Wire {
    struct Name: Codable { var name: String }
    struct Certificate: Codable { var certificate: String }
    struct Reason: Codable { var reason: String }
    struct Message: Codable { var message: String }
    struct InvalidField: Codable { var field, value, limit: String }
    struct NotPermitted: Codable { var needed, reason: String }
    struct FirmwareRejected: Codable { var path, reason: String }
    struct WrongState: Codable { var name, state, operation: String }
    struct HolderFailed: Codable { var name, reason: String }
    struct InsufficientMemory: Codable {
        var neededBytes, availableBytes: UInt64
        var limit: String
        enum CodingKeys: String, CodingKey {
            case neededBytes = "needed_bytes"
            case availableBytes = "available_bytes"
            case limit
        }
    }
    struct NoKeyAvailable: Codable {
        var capacity, inUse: Int
        enum CodingKeys: String, CodingKey {
            case capacity
            case inUse = "in_use"
        }
    }
    struct LimitReached: Codable {
        var resource: LimitedResource
        var needed, available: UInt64
        var limit: String
    }
    struct KernelRefused: Codable {
        var operation: String
        var errno: Int32
        var errnoName: String
        var tdxStatus: String?
        var detail: String
        enum CodingKeys: String, CodingKey {
            case operation, errno
            case errnoName = "errno_name"
            case tdxStatus = "tdx_status"
            case detail
        }
    }
    struct ConversionIncomplete: Codable {
        var gpa, doneBytes, bytes: UInt64
        var reason: String
        enum CodingKeys: String, CodingKey {
            case gpa
            case doneBytes = "done_bytes"
            case bytes, reason
        }
    }
    struct Foreign: Decodable {
        var parameter, method, interface, reason, message: String?
    }
}

extension ControlError: CustomStringConvertible {
    /// One sentence without a full stop, for logs and for people.
    public var description: String {
        switch self {
        case .invalidField(let field, let value, let limit): "\(field) is \(value); it must be \(limit)"
        case .noSuchDomain(let name): "there is no TD named \(name)"
        case .noSuchCertificate(let certificate): "there is no certificate of a TD with the name or id \(certificate)"
        case .nameTaken(let name): "a TD named \(name) exists already"
        case .notPermitted(let needed, let reason): "not permitted (\(needed) is needed): \(reason)"
        case .insufficientMemory(let needed, let available, let limit):
            "\(needed) bytes of memory are needed and \(available) are available (\(limit))"
        case .noKeyAvailable(let capacity, let inUse): "no key id is free: \(inUse) of \(capacity) are in use"
        case .limitReached(let resource, let needed, let available, let limit):
            "not enough of \(resource.rawValue): \(needed) needed, \(available) available (\(limit))"
        case .firmwareRejected(let path, let reason): "the firmware \(path) is not usable: \(reason)"
        case .kernelRefused(let operation, _, let errnoName, let tdxStatus, let detail):
            "\(operation) failed with \(errnoName)" + (tdxStatus.map { ", TDX status \($0)" } ?? "")
                + (detail.isEmpty ? "" : ": \(detail)")
        case .conversionIncomplete(let gpa, let doneBytes, let bytes, let reason):
            "converted \(doneBytes) of \(bytes) bytes from 0x\(String(gpa, radix: 16)) on, then: \(reason)"
        case .wrongState(let name, let state, let operation): "\(name) is \(state): \(operation) is not possible now"
        case .holderFailed(let name, let reason): "the holder of \(name) failed: \(reason)"
        case .tryAgain(let reason): "not now: \(reason)"
        case .other(let name, let message): message.isEmpty ? name : "\(name): \(message)"
        }
    }
}
