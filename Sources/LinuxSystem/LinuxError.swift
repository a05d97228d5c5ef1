public import SystemPackage

/// A refusal by Linux: which call, which errno, and what was asked.
public struct LinuxError: Error, Hashable, Sendable {
    /// The call as its manual page names it, such as `memfd_create` or `fallocate(PUNCH_HOLE)`.
    public var operation: String
    public var errno: Errno
    /// What was asked, for people: paths, sizes, numbers. May be empty.
    public var detail: String

    public init(_ operation: String, _ errno: Errno, detail: String = "") {
        self.operation = operation
        self.errno = errno
        self.detail = detail
    }
}

extension LinuxError: CustomStringConvertible {
    /// "fallocate(PUNCH_HOLE): EINVAL (Invalid argument): offset 3"
    public var description: String {
        "\(operation): \(errno.name) (\(errno.description))" + (detail.isEmpty ? "" : ": \(detail)")
    }
}

extension LinuxError {
    /// Turns a door function's result into a value or an error: negative results are −errno.
    @discardableResult
    package static func check<Result: SignedInteger & FixedWidthInteger>(
        _ result: Result, _ operation: String, _ detail: @autoclosure () -> String = ""
    ) throws(LinuxError) -> Result {
        guard result < 0 else { return result }
        throw LinuxError(operation, Errno(rawValue: CInt(clamping: -Int64(result))), detail: detail())
    }

    /// As `check`, repeated while the call is interrupted by signals.
    @discardableResult
    package static func retrying<Result: SignedInteger & FixedWidthInteger>(
        _ operation: String, _ detail: @autoclosure () -> String = "", _ call: () -> Result
    ) throws(LinuxError) -> Result {
        while true {
            let result = call()
            if result != Result(-Errno.interrupted.rawValue) { return try check(result, operation, detail()) }
        }
    }
}
