public import LinuxSystem

/// Why a call has no reply.
public enum VarlinkClientError: Error, Sendable {
    /// No server listens at this path: the daemon does not run, or is not for us.
    case unavailable(path: String, LinuxError)
    /// Nothing came for this long.
    case timedOut(after: Duration)
    /// The server closed the connection before the last reply.
    case disconnected
    /// The caller did not want the rest of several replies; the connection was closed.
    case givenUp
    /// What came is not a varlink reply, or not of the type that was expected.
    case protocolViolation(String)
    /// The call itself does not encode.
    case notEncodable(String)
    /// The server answered with an error.
    case reply(VarlinkErrorReply)
    case system(LinuxError)
}

extension VarlinkClientError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unavailable(let path, let error): "no server listens at \(path): \(error.errno)"
        case .timedOut(let duration): "no answer within \(duration)"
        case .disconnected: "the connection was closed before the answer came"
        case .givenUp: "the call was given up"
        case .protocolViolation(let reason): "the answer is not understood: \(reason)"
        case .notEncodable(let reason): "the call does not encode: \(reason)"
        case .reply(let error): "\(error)"
        case .system(let error): "\(error)"
        }
    }
}
