import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

@testable import TDXEmulator

/// Rows F1 to F7 of the kernel's pre-fault test (reference/kvm.md §7.5), in its private variant, which is a TD's: a slot of
/// 2 MiB and a page at a 2 MiB-aligned address. And the rows of §7.6 that no other suite has.
@Suite struct PreFaultConformanceTests {
    private static let start: UInt64 = 2 << 20
    private static let size: UInt64 = 2 << 20 | 4096

    private func launch(_ host: TestHost, _ program: GuestProgram? = nil) throws -> TestTD {
        let td = try TestTD(host, configure: { $0.guest = program })
        try td.vm.deleteMemorySlot(0)
        try td.vm.setMemoryAttributes(td.whole, isPrivate: false)
        try td.vm.setMemorySlot(Self.slot(td))
        try td.vm.setMemoryAttributes(td.range(Self.start, Self.size), isPrivate: true)
        try td.vm.tdxFinalize()
        return td
    }

    private static func slot(_ td: TestTD) -> MemorySlot {
        var slot = td.slot()
        slot.range = td.range(start, size)
        return slot
    }

    @Test(arguments: TestHost.available)
    func `F1 to F4 and F7 what has a page is mapped, what has none is ENOENT, and nothing else changes`(
        host: TestHost
    ) throws {
        let td = try launch(host)
        let vcpu = td.vcpus[0]
        func mapped() -> PageCount { td.vm.inspection.privatePages }
        try vcpu.preFault(td.range(Self.start, 2 << 20))
        #expect(mapped() == PageCount(512))
        // One of two pages exists: it is mapped, and the call that cannot go on fails.
        expectErrno(.noSuchFileOrDirectory) { try vcpu.preFault(td.range(Self.start + (2 << 20), 8192)) }
        #expect(mapped() == PageCount(513))
        expectErrno(.noSuchFileOrDirectory) { try vcpu.preFault(td.range(Self.start + Self.size, 4096)) }
        #expect(mapped() == PageCount(513))
        try td.expectResident(PageCount(513))
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `F5 and F6 pre-faulting ends while its slot goes and comes, and the guest reads every page`(
        host: TestHost
    ) throws {
        let count = MutexBox(0)
        let td = try launch(
            host,
            GuestProgram { processor throws(GuestFault) in
                let kernel = GuestKernel(processor)
                for page in stride(from: Self.start, to: Self.start + Self.size, by: 4096) {
                    if try kernel.read(GuestPhysicalAddress(page), count: 1) == [0] { count.with { $0 += 1 } }
                }
            })
        let (vm, vcpu, range) = (td.vm, td.vcpus[0], td.range(Self.start, Self.size))
        let slot = Self.slot(td)
        let errors = Threads.run([
            {
                while true {
                    do throws(KVMError) {
                        try vcpu.preFault(range)
                        break
                    } catch {
                        // In the window without a slot: a private page that nothing is behind, or not yet.
                        guard
                            [.badAddress, .noSuchFileOrDirectory, .resourceTemporarilyUnavailable].contains(error.errno)
                        else { throw error }
                        sched_yield()
                    }
                }
            },
            {
                for _ in 0..<20 {
                    try vm.deleteMemorySlot(0)
                    try vm.setMemorySlot(slot)
                    usleep(500)
                }
            },
        ])
        #expect(errors.isEmpty, "\(errors)")
        // A deletion after the last pre-fault took the pages again; the re-created slot gives them back.
        try vcpu.preFault(range)
        #expect(td.vm.inspection.privatePages == PageCount(513))
        #expect(try vcpu.run() == .halt)
        #expect(count.value == 513)
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `X3 an allocation that signals interrupt goes on from what is there`(host: TestHost) throws {
        let td = try TestTD(host, size: .mebibytes(64))
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        var old = sigaction()
        sigaction(SIGURG, &action, &old)
        defer { sigaction(SIGURG, &old, nil) }
        let isDone = MutexBox(false)
        let (memory, whole) = (td.memory, td.wholeFile)
        let failure = MutexBox<KVMError?>(nil)
        let thread = Threads.start {
            do throws(KVMError) { try memory.allocate(whole) } catch { failure.set(error) }
            isDone.set(true)
        }
        // At most so many, pauses between: progress is made between two of them.
        for _ in 0..<2000 where !isDone.value {
            pthread_kill(thread, SIGURG)
            usleep(1000)
        }
        pthread_join(thread, nil)
        #expect(failure.value == nil)
        try td.expectResident(td.size.pages)
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `X4 no descriptor of guest memory reaches a program that is started`(host: TestHost) throws {
        // The kernel gives guest_memfds without FD_CLOEXEC: whoever makes one sets it.
        let td = try TestTD(host)
        let inode = td.memory.inode
        var found = 0
        for number in Int32(0)..<1024 {
            var status = stat()
            guard fstat(number, &status) == 0, UInt64(status.st_ino) == inode,
                status.st_mode & S_IFMT == S_IFREG, status.st_size == Int(td.size.rawValue)
            else { continue }
            found += 1
            #expect(fcntl(number, F_GETFD) & FD_CLOEXEC != 0)
        }
        #expect(found > 0)
        td.close()
        td.expectNothingLeft()
    }
}
