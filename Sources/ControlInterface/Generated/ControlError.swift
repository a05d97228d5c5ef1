// Written by scripts/generate-interfaces; changes belong into the .varlink file.

public import Varlink

/// The errors of `io.tdxd.Manager` and `io.tdxd.Holder`, as values. Both interfaces share them by short name; the
/// holder has fewer.
public enum ControlError: Error, Sendable, Hashable {
    /// A parameter is out of its limits: its name, what was sent, and what it must be.
    case invalidField(field: String, value: String, limit: String)
    case noSuchDomain(name: String)
    /// certificate: the id or the name that was asked for.
    case noSuchCertificate(certificate: String)
    case nameTaken(name: String)
    /// needed: the role or identity that the call takes.
    case notPermitted(needed: String, reason: String)
    /// limit: whose limit it is, such as MemAvailable.
    case insufficientMemory(neededBytes: UInt64, availableBytes: UInt64, limit: String)
    case noKeyAvailable(capacity: Int, inUse: Int)
    /// Something else that a TD takes is used up.
    case limitReached(resource: LimitedResource, needed: UInt64, available: UInt64, limit: String)
    case firmwareRejected(path: String, reason: String)
    /// tdx_status: the 64-bit completion status in hexadecimal, where there is one.
    case kernelRefused(operation: String, errno: Int32, errnoName: String, tdxStatus: String?, detail: String)
    /// The first done_bytes from gpa on are converted, the rest is as it was.
    case conversionIncomplete(gpa: UInt64, doneBytes: UInt64, bytes: UInt64, reason: String)
    case wrongState(name: String, state: String, operation: String)
    case holderFailed(name: String, reason: String)
    case tryAgain(reason: String)
    /// An error that this program does not know, or one of the standard ones of `org.varlink.service`.
    case other(name: String, message: String)
}

extension ControlError {
    /// The error as an answer on the wire.
    public func reply(on kind: ControlInterfaceKind) -> VarlinkErrorReply {
        switch self {
        case .invalidField(let field, let value, let limit):
            VarlinkErrorReply(
                kind.name + ".InvalidField", Wire.InvalidField(field: field, value: value, limit: limit))
        case .noSuchDomain(let name):
            VarlinkErrorReply(
                kind.name + ".NoSuchDomain", Wire.NoSuchDomain(name: name))
        case .noSuchCertificate(let certificate):
            VarlinkErrorReply(
                kind.name + ".NoSuchCertificate", Wire.NoSuchCertificate(certificate: certificate))
        case .nameTaken(let name):
            VarlinkErrorReply(
                kind.name + ".NameTaken", Wire.NameTaken(name: name))
        case .notPermitted(let needed, let reason):
            VarlinkErrorReply(
                kind.name + ".NotPermitted", Wire.NotPermitted(needed: needed, reason: reason))
        case .insufficientMemory(let neededBytes, let availableBytes, let limit):
            VarlinkErrorReply(
                kind.name + ".InsufficientMemory",
                Wire.InsufficientMemory(
                    neededBytes: neededBytes, availableBytes: availableBytes, limit: limit
                ))
        case .noKeyAvailable(let capacity, let inUse):
            VarlinkErrorReply(
                kind.name + ".NoKeyAvailable", Wire.NoKeyAvailable(capacity: capacity, inUse: inUse))
        case .limitReached(let resource, let needed, let available, let limit):
            VarlinkErrorReply(
                kind.name + ".LimitReached",
                Wire.LimitReached(
                    resource: resource, needed: needed, available: available, limit: limit
                ))
        case .firmwareRejected(let path, let reason):
            VarlinkErrorReply(
                kind.name + ".FirmwareRejected", Wire.FirmwareRejected(path: path, reason: reason))
        case .kernelRefused(let operation, let errno, let errnoName, let tdxStatus, let detail):
            VarlinkErrorReply(
                kind.name + ".KernelRefused",
                Wire.KernelRefused(
                    operation: operation, errno: errno, errnoName: errnoName, tdxStatus: tdxStatus, detail: detail
                ))
        case .conversionIncomplete(let gpa, let doneBytes, let bytes, let reason):
            VarlinkErrorReply(
                kind.name + ".ConversionIncomplete",
                Wire.ConversionIncomplete(
                    gpa: gpa, doneBytes: doneBytes, bytes: bytes, reason: reason
                ))
        case .wrongState(let name, let state, let operation):
            VarlinkErrorReply(
                kind.name + ".WrongState", Wire.WrongState(name: name, state: state, operation: operation))
        case .holderFailed(let name, let reason):
            VarlinkErrorReply(
                kind.name + ".HolderFailed", Wire.HolderFailed(name: name, reason: reason))
        case .tryAgain(let reason):
            VarlinkErrorReply(
                kind.name + ".TryAgain", Wire.TryAgain(reason: reason))
        case .other(let name, let message): VarlinkErrorReply(name, Wire.Message(message: message))
        }
    }

    /// The value of an error of one of the two interfaces; nil for a name that is not declared.
    /// - Throws: a `DecodingError` for parameters that are not as declared.
    static func known(_ reply: VarlinkErrorReply) throws -> ControlError? {
        switch reply.shortName {
        case "InvalidField":
            let fields = try reply.parameters(as: Wire.InvalidField.self)
            return .invalidField(field: fields.field, value: fields.value, limit: fields.limit)
        case "NoSuchDomain":
            let fields = try reply.parameters(as: Wire.NoSuchDomain.self)
            return .noSuchDomain(name: fields.name)
        case "NoSuchCertificate":
            let fields = try reply.parameters(as: Wire.NoSuchCertificate.self)
            return .noSuchCertificate(certificate: fields.certificate)
        case "NameTaken":
            let fields = try reply.parameters(as: Wire.NameTaken.self)
            return .nameTaken(name: fields.name)
        case "NotPermitted":
            let fields = try reply.parameters(as: Wire.NotPermitted.self)
            return .notPermitted(needed: fields.needed, reason: fields.reason)
        case "InsufficientMemory":
            let fields = try reply.parameters(as: Wire.InsufficientMemory.self)
            return .insufficientMemory(
                neededBytes: fields.neededBytes, availableBytes: fields.availableBytes, limit: fields.limit
            )
        case "NoKeyAvailable":
            let fields = try reply.parameters(as: Wire.NoKeyAvailable.self)
            return .noKeyAvailable(capacity: fields.capacity, inUse: fields.inUse)
        case "LimitReached":
            let fields = try reply.parameters(as: Wire.LimitReached.self)
            return .limitReached(
                resource: fields.resource, needed: fields.needed, available: fields.available, limit: fields.limit
            )
        case "FirmwareRejected":
            let fields = try reply.parameters(as: Wire.FirmwareRejected.self)
            return .firmwareRejected(path: fields.path, reason: fields.reason)
        case "KernelRefused":
            let fields = try reply.parameters(as: Wire.KernelRefused.self)
            return .kernelRefused(
                operation: fields.operation, errno: fields.errno, errnoName: fields.errnoName,
                tdxStatus: fields.tdxStatus,
                detail: fields.detail
            )
        case "ConversionIncomplete":
            let fields = try reply.parameters(as: Wire.ConversionIncomplete.self)
            return .conversionIncomplete(
                gpa: fields.gpa, doneBytes: fields.doneBytes, bytes: fields.bytes, reason: fields.reason
            )
        case "WrongState":
            let fields = try reply.parameters(as: Wire.WrongState.self)
            return .wrongState(name: fields.name, state: fields.state, operation: fields.operation)
        case "HolderFailed":
            let fields = try reply.parameters(as: Wire.HolderFailed.self)
            return .holderFailed(name: fields.name, reason: fields.reason)
        case "TryAgain":
            let fields = try reply.parameters(as: Wire.TryAgain.self)
            return .tryAgain(reason: fields.reason)
        default: return nil
        }
    }
}

/// The errors' parameters, as the interface files declare them.
private enum Wire {
    struct Message: Codable { var message: String }
    struct InvalidField: Codable {
        var field: String
        var value: String
        var limit: String
    }
    struct NoSuchDomain: Codable {
        var name: String
    }
    struct NoSuchCertificate: Codable {
        var certificate: String
    }
    struct NameTaken: Codable {
        var name: String
    }
    struct NotPermitted: Codable {
        var needed: String
        var reason: String
    }
    struct InsufficientMemory: Codable {
        var neededBytes: UInt64
        var availableBytes: UInt64
        var limit: String
        enum CodingKeys: String, CodingKey {
            case neededBytes = "needed_bytes"
            case availableBytes = "available_bytes"
            case limit
        }
    }
    struct NoKeyAvailable: Codable {
        var capacity: Int
        var inUse: Int
        enum CodingKeys: String, CodingKey {
            case capacity
            case inUse = "in_use"
        }
    }
    struct LimitReached: Codable {
        var resource: LimitedResource
        var needed: UInt64
        var available: UInt64
        var limit: String
    }
    struct FirmwareRejected: Codable {
        var path: String
        var reason: String
    }
    struct KernelRefused: Codable {
        var operation: String
        var errno: Int32
        var errnoName: String
        var tdxStatus: String?
        var detail: String
        enum CodingKeys: String, CodingKey {
            case operation
            case errno
            case errnoName = "errno_name"
            case tdxStatus = "tdx_status"
            case detail
        }
    }
    struct ConversionIncomplete: Codable {
        var gpa: UInt64
        var doneBytes: UInt64
        var bytes: UInt64
        var reason: String
        enum CodingKeys: String, CodingKey {
            case gpa
            case doneBytes = "done_bytes"
            case bytes
            case reason
        }
    }
    struct WrongState: Codable {
        var name: String
        var state: String
        var operation: String
    }
    struct HolderFailed: Codable {
        var name: String
        var reason: String
    }
    struct TryAgain: Codable {
        var reason: String
    }
}

/// tds: as configured. disk: bytes of the state directory. descriptors: of tdxd (RLIMIT_NOFILE), with those that it
/// keeps free for clients and for ending TDs. waiting_creations: too many wait already.
public enum LimitedResource: String, Codable, Hashable, Sendable, CaseIterable {
    case trustDomains = "tds"
    case disk
    case descriptors
    case waitingCreations = "waiting_creations"
}
