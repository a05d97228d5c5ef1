public import Varlink

/// Which interface an error goes out on.
public enum ControlInterfaceKind: Sendable {
    case manager, holder

    var name: String { self == .manager ? InterfaceName.manager : InterfaceName.holder }
}

extension ControlError {
    /// The value of an error that came over the wire. One that is not known, or whose parameters are not as
    /// declared, becomes `other` and keeps its name.
    public init(_ reply: VarlinkErrorReply) {
        let known = [InterfaceName.manager, InterfaceName.holder].contains(reply.interface)
        self = (known ? try? Self.known(reply) : nil) ?? .other(name: reply.name, message: Self.message(of: reply))
    }

    /// A foreign error's text for people: the standard errors' one parameter, or a message of our own.
    private static func message(of reply: VarlinkErrorReply) -> String {
        guard let fields = try? reply.parameters(as: Foreign.self) else { return "" }
        let subject = fields.parameter ?? fields.method ?? fields.interface
        return [subject, fields.reason ?? fields.message].compactMap(\.self).joined(separator: ": ")
    }
}

private struct Foreign: Decodable {
    var parameter, method, interface, reason, message: String?
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
