import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

@testable import TDXEmulator

/// Memslots, attributes, guest memory files and pre-fault on an emulated TDX VM.
@Suite struct MemoryTests {
    private static let page = ByteCount(4096)

    // MARK: guest_memfd (reference/kvm.md §7.1)

    @Test(arguments: TestHost.available)
    func `Guest memory is made with MMAP or nothing and in whole pages`(host: TestHost) throws {
        let td = try TestTD(host)
        #expect(try td.vm.check(.guestMemfdFlags) == 1)
        for bit in 0..<64 {
            let flags = GuestMemoryFlags(rawValue: 1 << UInt64(bit))
            if bit == 0 {
                try td.vm.createGuestMemory(size: Self.page, flags: flags).close()
            } else {
                expectErrno(.invalidArgument) { _ = try td.vm.createGuestMemory(size: Self.page, flags: flags) }
            }
        }
        for size: UInt64 in [0, 1, 4095, 4097, 1 << 63] {
            expectErrno(.invalidArgument) { _ = try td.vm.createGuestMemory(size: ByteCount(size), flags: []) }
        }
        let large = try td.vm.createGuestMemory(size: ByteCount(1 << 62), flags: [])
        #expect(large.size == ByteCount(1 << 62))
        #expect(large.inode != td.memory.inode)
        large.close()
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `Allocating and punching follow guest_memfd's rules at the edges`(host: TestHost) throws {
        let td = try TestTD(host)
        let file = td.memory
        let end = td.size
        func range(_ offset: UInt64, _ length: UInt64) -> FileRange {
            FileRange(offset: ByteCount(offset), length: ByteCount(length))
        }
        try file.allocate(td.wholeFile)
        try td.expectResident(td.size.pages)
        for (offset, length) in [(0, 1), (0, 4095), (1, 4096), (1, 4095), (4096, 1), (4097, 4096), (0, 4097)] {
            let bad = range(UInt64(offset), UInt64(length))
            expectErrno(.invalidArgument) { try file.punchHole(bad) }
            expectErrno(.invalidArgument) { try file.allocate(bad) }
        }
        expectErrno(.invalidArgument) { try file.allocate(range(end.rawValue, 4096)) }
        try file.punchHole(range(end.rawValue, 4096))
        try file.punchHole(range(end.rawValue - 4096, 8192))
        try td.expectResident(PageCount(td.size.pages.rawValue - 1))
        try file.allocate(range(end.rawValue - 4096, 4096))
        try td.expectResident(td.size.pages)
        expectErrno(.operationNotSupportedByDevice) { _ = try file.map(td.wholeFile) }
        td.close()
        expectErrno(.badFileDescriptor) { try file.allocate(td.wholeFile) }
    }

    @Test(arguments: TestHost.available)
    func `A mapping of a mappable file keeps the VM`(host: TestHost) throws {
        let td = try TestTD(host)
        let mappable = try td.vm.createGuestMemory(size: Self.page, flags: .mmap)
        let mapping = try mappable.map(FileRange(offset: .zero, length: Self.page))
        mappable.close()
        td.close()
        #expect(!td.vm.inspection.isDestroyed)
        mapping.unmap()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `C12 after the VM is closed its file can be punched, allocated and closed`(host: TestHost) throws {
        let td = try TestTD(host)
        try td.add([UInt8](repeating: 1, count: 4096), at: 0)
        td.vcpus.forEach { $0.close() }
        td.vm.close()
        #expect(!td.vm.inspection.isDestroyed)
        try td.memory.punchHole(td.wholeFile)
        try td.expectResident(.zero)
        try td.memory.allocate(td.wholeFile)
        try td.expectResident(td.size.pages)
        td.memory.close()
        td.expectNothingLeft()
    }

    // MARK: Memslots (§7.2)

    @Test(arguments: TestHost.available)
    func `Slots are refused in the kernel's words`(host: TestHost) throws {
        let td = try TestTD(host)
        func attempt(_ errno: Errno, _ change: (inout MemorySlot) -> Void, location: SourceLocation = #_sourceLocation)
        {
            var slot = td.slot(id: 1)
            slot.range = td.range(8 << 20, 4096)
            slot.guestMemory = nil
            change(&slot)
            expectErrno(errno, location: location) { try td.vm.setMemorySlot(slot) }
        }
        attempt(.invalidArgument) { $0.id = 32764 }
        attempt(.invalidArgument) { $0.range = td.range(8 << 20, 4095) }
        attempt(.invalidArgument) { $0.range = td.range((8 << 20) + 1, 4096) }
        attempt(.invalidArgument) { $0.userspaceAddress = 1 }
        attempt(.invalidArgument) { $0.userspaceAddress = 1 << 62 }
        attempt(.fileExists) { $0.range = td.range(0x1000, 4096) }
        attempt(.invalidArgument) { $0.range = td.range(1 << 52, 4096) }
        attempt(.invalidArgument) { $0.range = td.range(1 << 47, 4096) }
        // The same guest memory again: overlapping in the file, beyond its end, unaligned in it.
        attempt(.fileExists) { $0.guestMemory = td.memory }
        attempt(.invalidArgument) {
            $0.guestMemory = td.memory
            $0.guestMemoryOffset = td.size
        }
        attempt(.invalidArgument) {
            $0.guestMemory = td.memory
            $0.guestMemoryOffset = ByteCount(1)
        }
        // Guest memory slots do not change.
        expectErrno(.invalidArgument) { try td.vm.setMemorySlot(td.slot()) }
        expectErrno(.invalidArgument) { try td.vm.deleteMemorySlot(7) }
        let other = try TestTD(host)
        attempt(.invalidArgument) { $0.guestMemory = other.memory }
        let closed = try td.vm.createGuestMemory(size: Self.page, flags: [])
        closed.close()
        attempt(.badFileDescriptor) { $0.guestMemory = closed }
        other.close()
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `A file range can be bound again after its slot is deleted`(host: TestHost) throws {
        let td = try TestTD(host)
        try td.add([UInt8](repeating: 5, count: 4096), at: 0)
        try td.vm.deleteMemorySlot(0)
        #expect(td.vm.inspection.privatePages == .zero)
        // The slot's deletion takes the page from the TD; its bytes stay in the file.
        try td.expectResident(PageCount(1))
        try td.vm.setMemorySlot(td.slot(id: 9))
        try td.add([UInt8](repeating: 6, count: 4096), at: 0)
        #expect(try td.contents(0, 1) == [6])
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `X5 closing the file under a slot takes its pages and leaves the slot`(host: TestHost) throws {
        let td = try TestTD(host)
        try td.add([UInt8](repeating: 5, count: 8192), at: 0)
        td.memory.close()
        #expect(td.vm.inspection.privatePages == .zero)
        expectErrno(.badAddress) { try td.add([1], at: 0) }
        try td.vm.tdxFinalize()
        expectErrno(.badAddress) { try td.vcpus[0].preFault(td.range(0, 4096)) }
        try td.vm.deleteMemorySlot(0)
        td.close()
        td.expectNothingLeft()
    }

    // MARK: Attributes (§3, §7.3)

    @Test(arguments: TestHost.available)
    func `X7 a page count drops at the punch, not at the conversion`(host: TestHost) throws {
        let td = try TestTD(host)
        try td.add([UInt8](repeating: 5, count: 4 * 4096), at: 0)
        try td.vm.tdxFinalize()
        try td.vm.setMemoryAttributes(td.range(0x1000, 0x2000), isPrivate: false)
        #expect(td.vm.inspection.privatePages == PageCount(2))
        try td.expectResident(PageCount(4))
        try td.memory.punchHole(FileRange(offset: Self.page, length: ByteCount(8192)))
        try td.expectResident(PageCount(2))
        // Once more private: the next use is a fresh page.
        try td.vm.setMemoryAttributes(td.range(0x1000, 0x2000), isPrivate: true)
        try td.vcpus[0].preFault(td.range(0x1000, 0x2000))
        try td.expectResident(PageCount(4))
        #expect(try td.contents(0x1000, 8192) == [UInt8](repeating: 0, count: 8192))
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `X6 setting an attribute that is there already changes and removes nothing`(host: TestHost) throws {
        let td = try TestTD(host)
        try td.add([UInt8](repeating: 5, count: 4096), at: 0)
        let before = td.vm.inspection
        try td.vm.setMemoryAttributes(td.whole, isPrivate: true)
        try td.vm.setMemoryAttributes(td.range(1 << 30, 1 << 30), isPrivate: false)
        #expect(td.vm.inspection == before)
        expectErrno(.invalidArgument) { try td.vm.setMemoryAttributes(td.range(0, 0), isPrivate: true) }
        expectErrno(.invalidArgument) { try td.vm.setMemoryAttributes(td.range(1, 4096), isPrivate: true) }
        expectErrno(.invalidArgument) { try td.vm.setMemoryAttributes(td.range(0, 4095), isPrivate: true) }
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `Converting every odd page removes just those`(host: TestHost) throws {
        let td = try TestTD(host)
        try td.vm.tdxFinalize()
        try td.vcpus[0].preFault(td.range(0, 64 * 4096))
        for page in stride(from: UInt64(1), to: 64, by: 2) {
            try td.vm.setMemoryAttributes(td.range(page * 4096, 4096), isPrivate: false)
            try td.memory.punchHole(FileRange(offset: ByteCount(page * 4096), length: Self.page))
        }
        #expect(td.vm.inspection.privatePages == PageCount(32))
        try td.expectResident(PageCount(32))
        td.close()
        td.expectNothingLeft()
    }

    // MARK: Pre-fault (§7.5)

    @Test(arguments: TestHost.available)
    func `Pre-fault maps what has a slot and says where there is none`(host: TestHost) throws {
        let td = try TestTD(host)
        try td.vm.tdxFinalize()
        let vcpu = td.vcpus[0]
        try vcpu.preFault(td.range(0, 2 << 20))
        #expect(td.vm.inspection.privatePages == PageCount(512))
        try td.expectResident(PageCount(512))
        // Again over mapped pages: success, nothing new.
        try vcpu.preFault(td.range(0, 2 << 20))
        #expect(td.vm.inspection.seamcalls["TDH.MEM.PAGE.AUG"] == 512)
        expectErrno(.noSuchFileOrDirectory) { try vcpu.preFault(td.range(td.size.rawValue, 4096)) }
        expectErrno(.invalidArgument) { try vcpu.preFault(td.range(0, 0)) }
        expectErrno(.invalidArgument) { try vcpu.preFault(td.range(1, 4096)) }
        expectErrno(.invalidArgument) { try vcpu.preFault(td.range(1 << 47, 4096)) }
        try td.vm.setMemoryAttributes(td.range(1 << 30, 4096), isPrivate: true)
        expectErrno(.badAddress) { try vcpu.preFault(td.range(1 << 30, 4096)) }
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `Several vCPUs pre-fault one range while it is punched and nothing is lost`(host: TestHost) async throws {
        let td = try TestTD(host, vcpus: 2)
        try td.vm.tdxFinalize()
        let vcpus = td.vcpus
        let memory = td.memory
        let whole = td.whole
        let work: [@Sendable () throws -> Void] =
            vcpus.map { vcpu in { @Sendable in for _ in 0..<4 { try vcpu.preFault(whole) } } } + [
                { @Sendable in
                    for offset in stride(from: UInt64(0), to: 4 << 20, by: 64 << 10) {
                        try memory.punchHole(FileRange(offset: ByteCount(offset), length: .kibibytes(64)))
                    }
                }
            ]
        let failures = Threads.run(work)
        #expect(failures.isEmpty, "\(failures)")
        try td.expectResident(td.vm.inspection.privatePages)
        try vcpus[0].preFault(whole)
        #expect(td.vm.inspection.privatePages == td.size.pages)
        td.close()
        td.expectNothingLeft()
    }

    @Test func `A sparse terabyte costs frames only where pages are`() throws {
        let td = try TestTD(.memfd, size: .gibibytes(1024))
        try td.vm.tdxFinalize()
        for gibibyte: UInt64 in [0, 500, 1023] {
            try td.vcpus[0].preFault(td.range(gibibyte << 30, 4096))
        }
        #expect(td.system.framesInUse.fileChunks == 3)
        try td.expectResident(PageCount(3))
        td.close()
        td.expectNothingLeft()
    }
}
