internal import CLinux

/// A kobject uevent.
public struct KernelEvent: Hashable, Sendable {
    /// "add", "change", …
    public var action: String
    /// Such as "/devices/virtual/misc/fuse".
    public var devicePath: String
    public var properties: [String: String]

    /// Reads a message: "ACTION@PATH", then "KEY=VALUE", each ended by a zero byte. Nil when the first part is not so.
    public init?(parsing message: some Collection<UInt8>) {
        let fields = message.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        guard let header = fields.first, let at = header.firstIndex(of: "@") else { return nil }
        action = String(header[..<at])
        devicePath = String(header[header.index(after: at)...])
        properties = [:]
        for field in fields.dropFirst() {
            guard let equals = field.firstIndex(of: "=") else { continue }
            properties[String(field[..<equals])] = String(field[field.index(after: equals)...])
        }
    }
}

/// The kernel's broadcast of kobject uevents (netlink). The descriptor is non-blocking and readable when one waits.
///
/// Events can be lost when the reader is slow: `next` then throws ENOBUFS once and goes on with those that follow.
public struct KernelEventSource: ~Copyable, Sendable {
    public let descriptor: OwnedDescriptor

    /// - Throws: EPERM or EPROTONOSUPPORT in containers and sandboxes that have no such events.
    public init() throws(LinuxError) {
        descriptor = OwnedDescriptor(
            taking: try LinuxError.check(tdxd_open_uevents(), "bind(NETLINK_KOBJECT_UEVENT)"))
    }

    /// The next event from the kernel; nil when none waits. Malformed messages are passed over.
    public func next() throws(LinuxError) -> KernelEvent? {
        // The kernel's limit for one message is 2 KiB of properties and the header.
        var buffer = [UInt8](repeating: 0, count: 8192)
        while true {
            let count = try LinuxError.check(
                buffer.withUnsafeMutableBytes { tdxd_read_uevent(descriptor.rawValue, $0.baseAddress, $0.count) },
                "recvmsg(NETLINK_KOBJECT_UEVENT)")
            if count == 0 { return nil }
            if let event = KernelEvent(parsing: buffer[..<Int(count)]) { return event }
        }
    }

    /// Waits for readable events.
    /// - Returns: false when the time is up.
    public func wait(milliseconds: Int32) throws(LinuxError) -> Bool {
        try LinuxError.retrying("poll(uevent)") { tdxd_poll_readable(descriptor.rawValue, milliseconds) } != 0
    }
}
