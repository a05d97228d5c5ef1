import KVM
import LinuxSystem
import MemoryUnits
import Testing

/// A software-protected VM with both sides of its memory and a guest in it, whose requests to convert are obeyed as the
/// kernel's private_mem_conversions_test does.
struct PrivateGuest {
    static let page: UInt64 = 4096
    /// What each vCPU converts parts of: 2 MiB and one page, so that parts cross the border of a large page.
    static let size: UInt64 = 2 << 20 + 4096
    /// The guest-physical address where the first vCPU's data begin, and the distance to the next one's.
    static let base: UInt64 = 0x1000_0000
    static let stride: UInt64 = 4 << 20

    let vm: KernelVirtualMachine
    let memory: KernelGuestMemory
    let shared: FileMapping
    let guest: Guest

    /// - Parameter slots: how many cut the one file; their borders need not be those of the vCPUs' data.
    init(vcpus: UInt64 = 1, slots: UInt64 = 1) throws {
        vm = try Machine.createVM(.softwareProtected)
        try vm.enable(.exitHypercall, [1 << 12])
        let total = Self.stride * vcpus
        memory = try vm.createKernelGuestMemory(size: ByteCount(total), flags: [])
        shared = try MemoryFile(name: "shared", size: ByteCount(total)).map(length: ByteCount(total))
        guest = try Guest(vm)
        guest.keep(shared)
        guest.keep(memory)
        let length = total / slots / (2 << 20) * (2 << 20)
        for slot in 0..<slots {
            let start = slot * length
            let end = slot == slots - 1 ? total : start + length
            try vm.setMemorySlot(
                MemorySlot(
                    id: UInt32(slot), range: GuestPhysicalRange(Self.base + start, end - start),
                    userspaceAddress: UInt(bitPattern: shared.baseAddress) + UInt(start), guestMemory: memory,
                    guestMemoryOffset: ByteCount(start)))
        }
    }

    /// The guest – the first unless another is named – asks, the host sees exactly what it asked for and does it, and
    /// the guest sees success.
    ///
    /// - Parameters:
    ///   - attributes: what the guest passes; KVM hands it on and does not interpret it.
    ///   - discard: also allocates on the way to private, and punches on the way to shared.
    func convert(
        _ offset: UInt64, _ length: UInt64, by asking: Guest? = nil, toPrivate: Bool, discard: Bool = false,
        attributes: UInt32 = 0xABC0_0013
    ) throws {
        let asking = asking ?? guest
        let pages = length / Self.page
        var exits: [VCPUExit] = []
        let answer = try asking.ask(
            .hypercall, 12, UInt32(Self.base + offset), UInt32(pages), attributes
        ) { exit in
            exits.append(exit)
            guard case .hypercall = exit else { throw Guest.Failure.unexpected(exit) }
            if discard {
                if toPrivate {
                    try memory.allocate(FileRange(offset, length))
                } else {
                    try memory.punchHole(FileRange(offset, length))
                }
            }
            try vm.setMemoryAttributes(GuestPhysicalRange(Self.base + offset, length), isPrivate: toPrivate)
            asking.vcpu.completeHypercall(0)
        }
        #expect(
            exits == [.hypercall(number: 12, arguments: [Self.base + offset, pages, UInt64(attributes), 0, 0, 0])])
        #expect(answer == 0)
    }

    /// What the exit that ends a command is, where it is none of the dialogue's.
    func exit(of command: Guest.Command, _ first: UInt32, _ second: UInt32? = nil) -> VCPUExit? {
        var outcome: VCPUExit?
        let end = { (exit: VCPUExit) in
            outcome = exit
            throw Guest.Failure.unexpected(exit)
        }
        if let second {
            _ = try? guest.ask(command, first, second, other: end)
        } else {
            _ = try? guest.ask(command, first, other: end)
        }
        return outcome
    }
}
