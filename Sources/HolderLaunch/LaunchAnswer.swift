public import LinuxSystem
internal import SystemPackage

/// The launcher's answers: one message of the socket.
public enum LaunchAnswer: Hashable, Sendable {
    /// The first message: it is fenced in and takes requests. With what came of its fence, in words.
    case ready(fence: String)
    /// The program runs; a pidfd comes with the message.
    case started(number: UInt64, pid: Int32)
    /// Nothing was started.
    case refused(number: UInt64, LinuxError)
    /// Unasked, once for each that was started.
    case ended(number: UInt64, ProcessExit)
}

extension LaunchAnswer {
    private struct Wire: Codable {
        struct Refusal: Codable {
            var operation: String
            var errno: Int32
            var detail: String
        }
        struct End: Codable {
            var status: Int32?
            var signal: Int32?
            var dumped: Bool?
        }
        var number: UInt64 = 0
        var fence: String?
        var pid: Int32?
        var refusal: Refusal?
        var end: End?
    }

    /// The first bytes of a text, without a part of a character's code. Each byte may take six in JSON, and all of a message's texts
    /// have to fit.
    private static func cut(_ text: String, _ bytes: Int) -> String {
        var end = text.utf8.index(text.startIndex, offsetBy: bytes, limitedBy: text.endIndex) ?? text.endIndex
        while end.samePosition(in: text.unicodeScalars) == nil { end = text.utf8.index(before: end) }
        return String(text[..<end])
    }

    /// The message, of `LaunchRequest.limit` bytes at most.
    public func encoded() -> [UInt8] {
        var wire = Wire()
        switch self {
        case .ready(let fence): wire.fence = Self.cut(fence, 500)
        case .started(let number, let pid): (wire.number, wire.pid) = (number, pid)
        case .refused(let number, let error):
            wire.number = number
            wire.refusal = Wire.Refusal(
                operation: Self.cut(error.operation, 100), errno: error.errno.rawValue,
                detail: Self.cut(error.detail, 500))
        case .ended(let number, .exited(let status)): (wire.number, wire.end) = (number, Wire.End(status: status))
        case .ended(let number, .killed(let signal, let dumped)):
            (wire.number, wire.end) = (number, Wire.End(signal: signal.rawValue, dumped: dumped))
        }
        return LaunchCoding.encode(wire)
    }

    /// - Throws: what is wrong with the message.
    public init(decoding message: [UInt8]) throws(LaunchFlaw) {
        let wire = try LaunchCoding.decode(Wire.self, message)
        if let fence = wire.fence {
            self = .ready(fence: fence)
        } else if let pid = wire.pid {
            guard pid > 0 else { throw LaunchFlaw(field: "pid", value: "\(pid)", limit: "1 or more") }
            self = .started(number: wire.number, pid: pid)
        } else if let refusal = wire.refusal {
            self = .refused(
                number: wire.number,
                LinuxError(refusal.operation, Errno(rawValue: refusal.errno), detail: refusal.detail))
        } else if let status = wire.end?.status {
            self = .ended(number: wire.number, .exited(status: status))
        } else if let signal = wire.end?.signal {
            self = .ended(
                number: wire.number,
                .killed(by: Signal(rawValue: signal), coreDumped: wire.end?.dumped ?? false))
        } else {
            throw LaunchFlaw(field: "answer", value: "nothing", limit: "one of fence, pid, refusal, end")
        }
    }
}
