public import LinuxSystem
internal import MemoryUnits

/// A process that holds KVM VMs or their guest_memfds, as /proc shows it.
///
/// Which guest page is where in a file, its attributes and its conversions are known to the process alone.
public struct VMProcess: Hashable, Sendable {
    /// One guest_memfd.
    public struct GuestFile: Hashable, Sendable {
        public var identity: FileIdentity
        /// Its size, which is guest memory that may be private, in bytes.
        public var bytes: UInt64
        /// Bytes that take memory now, as cachestat(2) counts them; nil where this process may not count.
        public var residentBytes: UInt64?

        public init(identity: FileIdentity, bytes: UInt64, residentBytes: UInt64? = nil) {
            self.identity = identity
            self.bytes = bytes
            self.residentBytes = residentBytes
        }
    }

    public var pid: Int32
    /// When it started, in clock ticks (1/100 s) since boot.
    public var startTicks: UInt64
    /// The program's name, which the program itself chose: 15 bytes at most.
    public var program: String
    /// Nil where it cannot be read.
    public var ownerUID: UInt32?
    /// The path of its control group below the root of cgroup2.
    public var controlGroup: String?
    /// The VM's name, as the command line, the machine's unit or the pod gives it; 255 bytes at most.
    public var name: String?
    /// Descriptors of VMs. Two of them may be of one VM.
    public var vmDescriptors: Int
    /// Descriptors of vCPUs.
    public var vcpuDescriptors: Int
    /// Each guest_memfd once, in order of inode numbers.
    public var files: [GuestFile]
    /// Descriptors of VMs, vCPUs or guest_memfds that could not be looked at.
    public var unreadable: Int

    public init(
        pid: Int32, startTicks: UInt64, program: String, ownerUID: UInt32? = nil, controlGroup: String? = nil,
        name: String? = nil, vmDescriptors: Int = 0, vcpuDescriptors: Int = 0, files: [GuestFile] = [],
        unreadable: Int = 0
    ) {
        self.pid = pid
        self.startTicks = startTicks
        self.program = program
        self.ownerUID = ownerUID
        self.controlGroup = controlGroup
        self.name = name
        self.vmDescriptors = vmDescriptors
        self.vcpuDescriptors = vcpuDescriptors
        self.files = files
        self.unreadable = unreadable
    }

    /// It holds memory that only a confidential VM needs: guest_memfds, readable or not.
    public var isConfidential: Bool { !files.isEmpty || unreadable > 0 }

    /// Bytes of its guest_memfds. Sizes are the kernel's; a sum that does not fit is the largest number.
    public var guestBytes: UInt64 { Self.sum(files.map(\.bytes)) }

    /// Resident bytes of all its guest_memfds; nil where one of them could not be counted.
    public var residentBytes: UInt64? {
        let counted = files.compactMap(\.residentBytes)
        return counted.count == files.count && unreadable == 0 ? Self.sum(counted) : nil
    }

    /// The unit of systemd that it runs in, such as `machine-qemu\x2d1\x2dweb1.scope`; nil without one.
    public var unit: String? { controlGroup.flatMap { ControlGroupNames.unit(of: $0) } }

    /// "qemu-system-x86 (pid 123, web1): guest_memfds of 256 MiB"
    public var words: String {
        let size = unreadable > 0 ? "of unknown size" : "of \(ByteCount(guestBytes))"
        return "\(program) (pid \(pid)\(name.map { ", \($0)" } ?? "")): guest_memfds \(size)"
    }

    package static func sum(_ bytes: [UInt64]) -> UInt64 {
        bytes.reduce(0) { sum, next in
            let (result, overflow) = sum.addingReportingOverflow(next)
            return overflow ? .max : result
        }
    }
}
