/// Why a configuration is refused: where, and what would have been right. Nothing has been changed when one is thrown.
public struct ConfigurationError: Error, Hashable, Sendable {
    /// What kind of mistake it is.
    public enum Reason: String, Hashable, Sendable, CaseIterable {
        /// The file or folder cannot be opened or read.
        case unreadable
        /// A directory, FIFO, device or socket where a file belongs.
        case notAFile
        /// More than `INIDocument.maximumSize`.
        case tooLarge
        /// Bytes that are no UTF-8 text, or control characters.
        case notText
        /// Neither a section, nor an assignment, nor a comment.
        case syntax
        /// An assignment before the first section.
        case outsideSection
        case unknownSection
        case unknownKey
        /// The same key twice in one file.
        case duplicateKey
        /// A value of the wrong form, or out of range.
        case badValue
        /// Two settings that exclude each other.
        case conflict
    }

    public var reason: Reason
    /// The file's path as it was given.
    public var file: String
    /// From 1; nil where the file as a whole is meant.
    public var line: Int?
    /// One sentence: field, value, limit.
    public var message: String

    public init(_ reason: Reason, file: String, line: Int? = nil, message: String) {
        self.reason = reason
        self.file = file
        self.line = line
        self.message = message
    }
}

extension ConfigurationError: CustomStringConvertible {
    /// "/etc/tdxd/tdxd.conf:12: unknown key “sockt” in [service]; did you mean “socket”?"
    public var description: String {
        line.map { "\(file):\($0): \(message)" } ?? "\(file): \(message)"
    }
}
