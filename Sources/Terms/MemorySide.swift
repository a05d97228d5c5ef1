/// A side of guest memory. The raw values are those on the wire.
public enum MemorySide: String, Codable, Hashable, Sendable, CaseIterable {
    /// Encrypted with the TD's key id.
    case `private`
    /// Readable by the host.
    case shared
}
