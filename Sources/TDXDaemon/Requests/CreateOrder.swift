internal import ControlInterface
internal import MemoryUnits

/// What a client wants created, after every check that needs no look at the host.
struct CreateOrder: Hashable, Sendable {
    let name: DomainName
    let memory: ByteCount
    let vcpus: Int
    /// Absolute path of a TDVF image.
    let firmware: String?
    /// 96 hexadecimal digits each, in lower case.
    let mrConfigID: String?
    let mrOwner: String?
    let mrOwnerConfig: String?
    /// All private memory is allocated before the TD is there.
    var isPreallocated = false
    /// All private memory is mapped into its page table before the TD is there, and so allocated, too.
    var isPrefaulted = false
    /// How long it waits for what the host lacks; nil for not at all.
    var patience: Duration?
    /// On which NUMA nodes memory is allocated; checked, but not against this host's nodes.
    var numa: NUMAPolicy?

    /// KVM's own maximum of vCPUs a VM; a holder may allow fewer.
    static let maximumVCPUs = 1024
    /// Guest-physical addresses are 52 bits wide at most, and the topmost one selects the shared side.
    static let maximumMemory = ByteCount(1 << 51)

    /// - Throws: `ControlError.invalidField` for the first field that is out of its limits, in the order of the parameters.
    init(
        name: String, memoryBytes: Int64, vcpus: Int64, firmware: String?, mrConfigID: String?, mrOwner: String?,
        mrOwnerConfig: String?
    ) throws(ControlError) {
        self.name = try DomainName(forNew: name)
        guard memoryBytes > 0 else {
            throw .invalidField(field: "memory_bytes", value: String(memoryBytes), limit: "greater than 0")
        }
        let memory = ByteCount(UInt64(memoryBytes))
        guard memory.isPageAligned else {
            throw .invalidField(field: "memory_bytes", value: String(memoryBytes), limit: "a multiple of \(pageSize)")
        }
        guard memory <= Self.maximumMemory else {
            throw .invalidField(
                field: "memory_bytes", value: String(memoryBytes),
                limit: "at most \(Self.maximumMemory.rawValue), the private half of a 52-bit address space")
        }
        self.memory = memory
        guard (1...Int64(Self.maximumVCPUs)).contains(vcpus) else {
            throw .invalidField(field: "vcpus", value: String(vcpus), limit: "1 to \(Self.maximumVCPUs)")
        }
        self.vcpus = Int(vcpus)
        self.firmware = try firmware.map { path throws(ControlError) in try Self.validate(path: path) }
        self.mrConfigID = try Self.validate(digest: mrConfigID, field: "mrconfigid")
        self.mrOwner = try Self.validate(digest: mrOwner, field: "mrowner")
        self.mrOwnerConfig = try Self.validate(digest: mrOwnerConfig, field: "mrownerconfig")
    }

    /// PATH_MAX of Linux, without the terminating zero.
    private static let maximumPathLength = 4095

    private static func validate(path: String) throws(ControlError) -> String {
        guard path.utf8.first == UInt8(ascii: "/") else {
            throw .invalidField(field: "firmware", value: ControlError.quoting(path), limit: "an absolute path")
        }
        guard path.utf8.count <= maximumPathLength, !path.utf8.contains(0) else {
            throw .invalidField(
                field: "firmware", value: ControlError.quoting(path),
                limit: "at most \(maximumPathLength) bytes without NUL"
            )
        }
        return path
    }

    private static func validate(digest: String?, field: String) throws(ControlError) -> String? {
        guard let digest else { return nil }
        let isHexadecimal = digest.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
                UInt8(ascii: "A")...UInt8(ascii: "F"):
                true
            default: false
            }
        }
        guard digest.utf8.count == 96, isHexadecimal else {
            throw .invalidField(
                field: field, value: ControlError.quoting(digest), limit: "exactly 96 hexadecimal digits (48 bytes)")
        }
        return digest.lowercased()
    }
}
