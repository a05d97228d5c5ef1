import CKVM
import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

/// The kernel's guest_memfd_test, row by row, for every VM type and flag that the machine offers.
@Suite(.enabled(if: Machine.hasGuestMemfd, "the machine has no guest_memfd"))
struct GuestMemoryTests {
    private let page: UInt64 = 4096

    @Test(arguments: Machine.types)
    func `G1 every flag bit is accepted or refused as KVM_CAP_GUEST_MEMFD_FLAGS says`(type: VMType) throws {
        let vm = try Machine.createVM(type)
        let supported = UInt64(try vm.check(.guestMemfdFlags))
        for bit in 0..<64 {
            let flag = UInt64(1) << UInt64(bit)
            if supported & flag != 0 {
                let number = try vm.createRawGuestMemory(size: page, flags: flag)
                close(number)
            } else {
                expectRefusal(.invalidArgument) { _ = try vm.createRawGuestMemory(size: page, flags: flag) }
            }
        }
    }

    @Test(arguments: GuestMemoryKind.all)
    func `G2 two files of one VM keep their own size and inode`(kind: GuestMemoryKind) throws {
        let (vm, first) = try kind.create(ByteCount(page))
        let second = try vm.createKernelGuestMemory(size: ByteCount(2 * page), flags: kind.flags)
        #expect(first.size == ByteCount(page))
        #expect(second.size == ByteCount(2 * page))
        #expect(first.inode != second.inode)
        #expect(try first.duplicateDescriptor().status().size == ByteCount(page))
    }

    @Test(arguments: GuestMemoryKind.all)
    func `G3 sizes that are no whole pages, and size 0, are refused`(kind: GuestMemoryKind) throws {
        let vm = try Machine.createVM(kind.type)
        for size in Array(0..<page) + [page + 1, 1 << 63, UInt64.max] {
            expectRefusal(.invalidArgument) { _ = try vm.createRawGuestMemory(size: size, flags: kind.flags.rawValue) }
        }
    }

    @Test(arguments: GuestMemoryKind.all)
    func `G4 read and write fail, and seeking too`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.create(ByteCount(page))
        let file = try memory.duplicateDescriptor()
        var byte: UInt8 = 1
        #expect(read(file.rawValue, &byte, 1) == -1 && errno == EINVAL)
        #expect(write(file.rawValue, &byte, 1) == -1 && errno == EINVAL)
        #expect(pread(file.rawValue, &byte, 1, 0) == -1 && errno == ESPIPE)
        #expect(pwrite(file.rawValue, &byte, 1, 0) == -1 && errno == ESPIPE)
        #expect(lseek(file.rawValue, 0, SEEK_SET) == -1 && errno == ESPIPE)
        #expect(ftruncate(file.rawValue, off_t(page)) == -1 && errno == EINVAL)
    }

    @Test(arguments: GuestMemoryKind.all)
    func `G5 fstat tells the size and the page size, and never any blocks`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.create(ByteCount(4 * page))
        try memory.allocate(FileRange(0, 4 * page))
        let status = try memory.duplicateDescriptor().status()
        #expect(status.size == ByteCount(4 * page))
        #expect(status.blockSize == UInt32(page))
        #expect(status.blocks == 0)
        #expect(status.kind == .regular)
    }

    @Test(arguments: GuestMemoryKind.all)
    func `G6 the whole file is allocated and keeps its size`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.create(ByteCount(4 * page))
        try memory.allocate(FileRange(0, 4 * page))
        try expectResident(memory, FileRange(0, 4 * page), 4 * page)
        #expect(try memory.duplicateDescriptor().status().size == ByteCount(4 * page))
    }

    @Test(arguments: GuestMemoryKind.all)
    func `G7 a hole that starts or ends within a page is refused and frees nothing`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.filled(ByteCount(4 * page))
        expectRefusal(.invalidArgument) { try memory.punchHole(FileRange(page - 1, page)) }
        expectRefusal(.invalidArgument) { try memory.punchHole(FileRange(page, page - 1)) }
        try expectResident(memory, FileRange(0, 4 * page), 4 * page)
    }

    @Test(arguments: GuestMemoryKind.all)
    func `G8 nothing is allocated at the file's end or beyond`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.create(ByteCount(4 * page))
        expectRefusal(.invalidArgument) { try memory.allocate(FileRange(4 * page, page)) }
        expectRefusal(.invalidArgument) { try memory.allocate(FileRange(5 * page, page)) }
        try expectResident(memory, FileRange(0, 4 * page), 0)
    }

    @Test(arguments: GuestMemoryKind.all)
    func `G9 a hole at the file's end or beyond is punched and frees nothing`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.filled(ByteCount(4 * page))
        try memory.punchHole(FileRange(4 * page, page))
        try memory.punchHole(FileRange(5 * page, page))
        try expectResident(memory, FileRange(0, 4 * page), 4 * page)
    }

    @Test(arguments: GuestMemoryKind.all)
    func `G10 a punched page is gone alone and can be allocated again`(kind: GuestMemoryKind) throws {
        let size = 4 * page
        let (_, memory) = try kind.filled(ByteCount(size))
        try memory.punchHole(FileRange(page, page))
        try expectResident(memory, FileRange(0, size), size - page)
        try expectResident(memory, FileRange(page, page), 0)
        try memory.allocate(FileRange(page, page))
        try expectResident(memory, FileRange(0, size), size)
    }

    @Test(arguments: GuestMemoryKind.all)
    func `G11 punching unaligned or empty ranges is refused and frees nothing`(kind: GuestMemoryKind) throws {
        let size = 4 * page
        let (_, memory) = try kind.create(ByteCount(size))
        try memory.allocate(FileRange(0, size))
        let cases: [(UInt64, UInt64)] = [
            (0, 1), (0, page - 1), (0, page + 1), (1, 1), (1, page - 1), (1, page), (1, page + 1), (page, 1),
            (page, page - 1), (page, page + 1), (0, 0),
        ]
        for (offset, length) in cases {
            expectRefusal(.invalidArgument) { try memory.punchHole(FileRange(offset, length)) }
        }
        try expectResident(memory, FileRange(0, size), size)
    }

    @Test(arguments: GuestMemoryKind.all(with: []))
    func `G12 without MMAP nothing can be mapped`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.create(ByteCount(4 * page))
        expectRefusal(.operationNotSupportedByDevice) { _ = try memory.map(FileRange(0, page)) }
        expectRefusal(.operationNotSupportedByDevice) { _ = try memory.map(FileRange(0, 4 * page)) }
    }

    @Test(arguments: GuestMemoryKind.all.filter { $0.flags.contains(.mmap) })
    func `G13 a private mapping is refused`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.create(ByteCount(page))
        let file = try memory.duplicateDescriptor()
        #expect(mmap(nil, Int(page), PROT_READ, MAP_PRIVATE, file.rawValue, 0) == MAP_FAILED && errno == EINVAL)
    }

    @Test(arguments: GuestMemoryKind.all(with: [.mmap]))
    func `G14 MMAP alone can be mapped but not touched`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.create(ByteCount(page))
        let mapping = try #require(try memory.map(FileRange(0, page)) as? FileMapping)
        // What raises SIGBUS in a program's own access fails with EFAULT in the kernel's.
        expectRefusal(.badAddress) { try mapping.populate(offset: .zero, length: mapping.size) }
        let sink = try MemoryFile(name: "sink", size: ByteCount(page)).duplicateDescriptor()
        #expect(pwrite(sink.rawValue, mapping.baseAddress, 1, 0) == -1 && errno == EFAULT)
        try expectResident(memory, FileRange(0, page), 0)
    }

    @Test(.enabled(if: !GuestMemoryKind.all(with: [.mmap]).isEmpty, "no VM type takes the flag MMAP"))
    func `G14 touching memory with MMAP alone ends in SIGBUS`() async {
        await #expect(processExitsWith: .signal(SIGBUS)) {
            let kind = try #require(GuestMemoryKind.all(with: [.mmap]).first)
            let (_, memory) = try kind.create(ByteCount(4096))
            try memory.map(FileRange(0, 4096)).fill(1)
        }
    }

    @Test(arguments: GuestMemoryKind.all(with: [.mmap, .initShared]))
    func `G15 shared memory is filled and read; a punched page reads zero and can be filled again`(
        kind: GuestMemoryKind
    ) throws {
        let (_, memory) = try kind.create(ByteCount(4 * page))
        let mapping = try memory.map(FileRange(0, 4 * page))
        mapping.fill(0xAA)
        #expect(mapping.holds(0xAA))
        try memory.punchHole(FileRange(0, page))
        #expect(mapping.holds(0, 0, page))
        #expect(mapping.holds(0xAA, page))
        mapping.fill(0x55, 0, page)
        #expect(mapping.holds(0x55, 0, page))
    }

    @Test(.enabled(if: !GuestMemoryKind.all(with: [.mmap, .initShared]).isEmpty, "no VM type takes INIT_SHARED"))
    func `G16 a mapping may reach beyond the end, where touching ends in SIGBUS`() async throws {
        let kind = try #require(GuestMemoryKind.all(with: [.mmap, .initShared]).first)
        let (_, memory) = try kind.create(ByteCount(page))
        let mapping = try #require(try memory.map(FileRange(0, 4 * page)) as? FileMapping)
        mapping.fill(0xAA, 0, page)
        expectRefusal(.badAddress) { try mapping.populate(offset: ByteCount(page), length: ByteCount(page)) }
        #expect(mapping.holds(0xAA, 0, page))
        await #expect(processExitsWith: .signal(SIGBUS)) {
            let kind = try #require(GuestMemoryKind.all(with: [.mmap, .initShared]).first)
            let (_, memory) = try kind.create(ByteCount(4096))
            try memory.map(FileRange(0, 4 * 4096)).fill(1)
        }
    }

    @Test(arguments: GuestMemoryKind.all(with: [.mmap, .initShared]))
    func `G17 huge pages may be advised on an aligned mapping, which reads zero before and after`(kind: GuestMemoryKind)
        throws
    {
        let mapping = try AlignedMapping(kind)
        #expect(mapping.holds(0))
        #expect(mapping.advise(MADV_HUGEPAGE) == nil)
        #expect(mapping.holds(0))
    }

    @Test(arguments: GuestMemoryKind.all(with: [.mmap, .initShared]))
    func `G18 collapsing into a huge page is refused and loses nothing`(kind: GuestMemoryKind) throws {
        let mapping = try AlignedMapping(kind)
        mapping.fill(0x66)
        #expect(mapping.advise(collapseAdvice) == .invalidArgument)
        #expect(mapping.holds(0x66))
    }

    @Test(arguments: GuestMemoryKind.all(with: [.mmap, .initShared]))
    func `G19 what MADV_DONTNEED drops from the page tables is read again`(kind: GuestMemoryKind) throws {
        let mapping = try AlignedMapping(kind)
        mapping.fill(0x77)
        #expect(mapping.advise(MADV_DONTNEED) == nil)
        #expect(mapping.holds(0x77))
    }

    @Test(arguments: GuestMemoryKind.all(with: [.mmap, .initShared]))
    func `MADV_REMOVE on a mapping punches a hole`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.create(ByteCount(4 * page))
        let mapping = try #require(try memory.map(FileRange(0, 4 * page)) as? FileMapping)
        mapping.fill(1)
        #expect(madvise(mapping.baseAddress, Int(mapping.size.rawValue), MADV_REMOVE) == 0)
        try expectResident(memory, FileRange(0, 4 * page), 0)
    }

    @Test(
        .enabled(if: Machine.numaNodes > 1, "the machine has one NUMA node"),
        arguments: GuestMemoryKind.all.filter { $0.flags.contains(.mmap) })
    func `G20 a policy belongs to a part of the file, and the default takes it back`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.create(ByteCount(4 * page))
        let mapping = try #require(try memory.map(FileRange(0, 4 * page)) as? FileMapping)
        try mapping.setPolicy(.interleave, [.node(0), .node(1)], offset: .zero, length: ByteCount(page))
        try mapping.setPolicy(.bind, .node(1), offset: ByteCount(page), length: ByteCount(2 * page))
        #expect(try mapping.policy(at: .zero) == (.interleave, [.node(0), .node(1)]))
        #expect(try mapping.policy(at: ByteCount(page)) == (.bind, .node(1)))
        #expect(try mapping.policy(at: ByteCount(2 * page)) == (.bind, .node(1)))
        #expect(try mapping.policy(at: ByteCount(3 * page)) == (.default, []))
        try mapping.setPolicy(.default, [], offset: .zero, length: ByteCount(4 * page))
        #expect(try mapping.policy(at: ByteCount(page)) == (.default, []))
    }

    @Test(arguments: GuestMemoryKind.all.filter { $0.flags.contains(.mmap) })
    func `G21 an unknown policy is refused`(kind: GuestMemoryKind) throws {
        let (_, memory) = try kind.create(ByteCount(page))
        let mapping = try #require(try memory.map(FileRange(0, page)) as? FileMapping)
        expectRefusal(.invalidArgument, Errno(rawValue: ENOSYS)) {
            try mapping.setPolicy(MemoryPolicy(rawValue: 999), .node(0), offset: .zero, length: ByteCount(page))
        }
    }

    @Test(
        .enabled(if: Machine.numaNodes > 1, "the machine has one NUMA node"),
        arguments: GuestMemoryKind.all(with: [.mmap, .initShared]))
    func `G22 pages come from the nodes asked for, and after a punch from the nodes asked for then`(
        kind: GuestMemoryKind
    ) throws {
        let (_, memory) = try kind.create(ByteCount(4 * page))
        let mapping = try #require(try memory.map(FileRange(0, 4 * page)) as? FileMapping)
        for nodes in [[0, 1, 0, 1], [1, 0, 1, 0]] {
            for (index, node) in nodes.enumerated() {
                try mapping.setPolicy(
                    .bind, .node(node), offset: ByteCount(UInt64(index) * page), length: ByteCount(page))
            }
            mapping.fill(0xAB)
            for (index, node) in nodes.enumerated() {
                #expect(try mapping.node(at: ByteCount(UInt64(index) * page)) == node)
            }
            try memory.punchHole(FileRange(0, 4 * page))
        }
    }

    @Test(arguments: GuestMemoryKind.all)
    func `G23 a bind far beyond the file is refused before the kernel could let it through`(kind: GuestMemoryKind)
        throws
    {
        let (vm, memory) = try kind.create(ByteCount(page))
        let farthest = UInt64(Int64.max) / page * page
        for offset in [page, farthest] {
            expectRefusal(.invalidArgument) {
                try vm.setMemorySlot(
                    MemorySlot(
                        id: 0, range: GuestPhysicalRange(0, page), userspaceAddress: 0, guestMemory: memory,
                        guestMemoryOffset: ByteCount(offset)))
            }
        }
        // The kernel's own answer: 7.2 refuses, 6.18 computes with a sign and accepts the farthest offset.
        try memory.use("test") { number throws(KVMError) in
            var region = tdxd_kvm_userspace_memory_region2()
            region.flags = UInt32(TDXD_KVM_MEM_GUEST_MEMFD)
            region.memory_size = page
            region.guest_memfd = UInt32(number)
            region.guest_memfd_offset = farthest
            do throws(KVMError) {
                try vm.setRegion(&region)
                try vm.deleteMemorySlot(0)
            } catch {
                #expect(error.errno == .invalidArgument)
            }
        }
    }

    @Test(.enabled(if: Machine.hasKVM))
    func `G24 a default VM offers MMAP and INIT_SHARED`() throws {
        #expect(try Machine.createVM(.default).check(.guestMemfdFlags) & 3 == 3)
    }

    @Test(.enabled(if: !GuestMemoryKind.all(with: [.mmap, .initShared]).isEmpty, "no VM type takes INIT_SHARED"))
    func `G25 a guest and its host see each other's writes in shared guest memory`() throws {
        let size: UInt64 = 2 << 20
        let base: UInt64 = 0x10_0000
        let (vm, memory) = try GuestMemoryKind(type: .default, flags: [.mmap, .initShared]).create(ByteCount(size))
        let mapping = try memory.map(FileRange(0, size))
        mapping.fill(0xAA)
        // KVM's own accesses go by the user-space address, so the slot gets the mapping's.
        try vm.setMemorySlot(
            MemorySlot(
                id: 1, range: GuestPhysicalRange(base, size), userspaceAddress: UInt(bitPattern: mapping.baseAddress),
                guestMemory: memory))
        let guest = try Guest(vm)
        guest.keep(mapping)
        #expect(try guest.holds(0xAA, base, size))
        try guest.fill(base, size, 0xFF)
        let again = try memory.map(FileRange(0, size))
        #expect(again.holds(0xFF))
    }

    @Test(arguments: GuestMemoryKind.all)
    func `no size is too large, since nothing is reserved`(kind: GuestMemoryKind) throws {
        let vm = try Machine.createVM(kind.type)
        for size: UInt64 in [1 << 40, 1 << 62, (1 << 63) - 4096] {
            #expect(try vm.createKernelGuestMemory(size: ByteCount(size), flags: kind.flags).size == ByteCount(size))
        }
    }
}
