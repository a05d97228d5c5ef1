/// What one client may cost a server. Every limit is enforced for each connection by itself unless stated otherwise.
public struct VarlinkLimits: Sendable {
    /// Most bytes in one message, its terminator not counted.
    public var messageBytes = 1 << 20
    /// Deepest nesting of objects and arrays in a message.
    public var nestingDepth = 32
    /// Most descriptors that may wait with messages not yet dispatched; the kernel's own limit is 253 a message.
    public var descriptors = 16
    /// Most connections over all clients.
    public var connections = 256
    /// Most connections of one user. Nil: no limit but `connections`.
    public var connectionsPerUser: Int? = 64
    /// Most bytes queued for a client that does not read; at one more it is dropped. A single answer may be longer.
    public var queuedBytes = 4 << 20
    /// Most bytes of answers that all clients of one user together have not read yet. A single answer may be longer.
    public var unreadBytesPerUser = 64 << 20
    /// How long a client may be connected before its first message is complete, and how long any message may take
    /// from its first byte to its last.
    public var messageTimeout = Duration.seconds(10)
    /// How long a client may leave answers unread.
    public var stallTimeout = Duration.seconds(30)
    /// How long a client that has been answered may stay silent. Nil: for ever.
    public var idleTimeout: Duration?

    public init() {}
}
