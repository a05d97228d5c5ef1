internal import CLinux
public import MemoryUnits

/// What names a file on this host whatever its path: the device and inode numbers of stat(2).
public struct FileIdentity: Hashable, Sendable {
    public var device: UInt64
    public var inode: UInt64

    public init(device: UInt64, inode: UInt64) {
        self.device = device
        self.inode = inode
    }
}

/// What stat(2) reports of a file.
public struct FileStatus: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        case regular, directory, characterDevice, blockDevice, fifo, symbolicLink, socket
    }

    public var identity: FileIdentity
    public var size: ByteCount
    /// In units of 512 bytes.
    public var blocks: UInt64
    public var links: UInt64
    public var blockSize: UInt32
    /// Nil for a file type that this kernel knows and the project does not.
    public var kind: Kind?
    /// The nine rwx bits with setuid, setgid and sticky.
    public var permissions: UInt32
    public var ownerUID: UInt32
    public var ownerGID: UInt32

    /// fstat(2)
    public init(ofDescriptor descriptor: Int32) throws(LinuxError) {
        var raw = tdxd_file_status()
        try LinuxError.check(tdxd_fstat(descriptor, &raw), "fstat", "descriptor \(descriptor)")
        self.init(raw)
    }

    /// stat(2), or lstat(2) when links are not followed.
    public init(ofPath path: String, followingLinks: Bool = true) throws(LinuxError) {
        var raw = tdxd_file_status()
        try LinuxError.check(tdxd_stat(path, followingLinks ? 1 : 0, &raw), "stat", path)
        self.init(raw)
    }

    private init(_ raw: tdxd_file_status) {
        identity = FileIdentity(device: raw.device, inode: raw.inode)
        size = ByteCount(raw.size)
        blocks = raw.blocks
        links = raw.links
        blockSize = raw.block_size
        permissions = raw.mode & 0o7777
        ownerUID = raw.uid
        ownerGID = raw.gid
        kind =
            switch raw.mode & 0o170000 {
            case 0o100000: .regular
            case 0o040000: .directory
            case 0o020000: .characterDevice
            case 0o060000: .blockDevice
            case 0o010000: .fifo
            case 0o120000: .symbolicLink
            case 0o140000: .socket
            default: nil
            }
    }
}
