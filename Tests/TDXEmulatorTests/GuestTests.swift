import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import TDXModule
import TDXStatusCodes
import Testing

@testable import TDXEmulator

/// What a guest sees and what its VMM sees of it: KVM_RUN, exits, conversions asked for by the guest.
@Suite struct GuestTests {
    /// A finalized TD whose vCPUs run the program.
    private func launch(
        _ host: TestHost = .memfd, size: ByteCount = .mebibytes(4), vcpus: UInt32 = 1, attributes: UInt64 = 0,
        configure: (inout EmulatorConfiguration) -> Void = { _ in },
        _ program: @escaping @Sendable (GuestProcessor) throws(GuestFault) -> Void
    ) throws -> TestTD {
        let td = try TestTD(
            host, size: size, vcpus: vcpus,
            configure: {
                $0.guest = GuestProgram(program)
                configure(&$0)
            }, parameters: TestTD.parameters { $0.attributes = attributes })
        try td.vm.tdxFinalize()
        return td
    }

    @Test func `Without a guest KVM_RUN says that nothing can execute`() throws {
        let td = try TestTD(.memfd)
        try td.vm.tdxFinalize()
        #expect(try td.vcpus[0].run() == .internalError(subcode: 4, data: [0x8000_FF00_FFFF_0000]))
        td.vcpus[0].setImmediateExit(true)
        #expect(try td.vcpus[0].run() == .interrupted)
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `An accepted page takes the guest's bytes, which are the real file's`(host: TestHost) throws {
        let td = try launch(host) { processor throws(GuestFault) in
            let page = GuestPhysicalAddress(0x3000)
            // Nothing is there yet: ACCEPT exits, the host augments, ACCEPT goes on.
            guard try processor.accept(page).isSuccess, processor.initialRCX == 0x1234 else { return }
            try processor.write(page + ByteCount(8), [1, 2, 3])
            try processor.writeShared(GuestPhysicalAddress(0x5000), [9])
        }
        try td.vm.setMemoryAttributes(td.range(0x5000, 0x1000), isPrivate: false)
        #expect(try td.vcpus[0].run() == .halt)
        #expect(try td.contents(0x3000, 12) == [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0])
        #expect(td.shared.baseAddress.load(fromByteOffset: 0x5000, as: UInt8.self) == 9)
        #expect(td.shared.baseAddress.load(fromByteOffset: 0x3008, as: UInt8.self) == 0)
        try td.expectResident(PageCount(1))
        td.close()
        td.expectNothingLeft()
    }

    @Test func `Accepting 2 MiB where the host maps 4 KiB is a size mismatch`() throws {
        let statuses = Mutex<[UInt64]>([])
        let td = try launch { processor throws(GuestFault) in
            let block = GuestPhysicalAddress(2 << 20)
            _ = try processor.accept(block)
            let large = try processor.accept(block, level: 1)
            let again = try processor.accept(block)
            statuses.withLock { $0 = [large.rawValue, again.rawValue] }
        }
        #expect(try td.vcpus[0].run() == .halt)
        #expect(statuses.withLock { $0 } == [0xC000_0B0B_0000_0001, 0x0000_0B0A_0000_0000])
        td.close()
        td.expectNothingLeft()
    }

    @Test func `A page that was not accepted raises a virtualization exception`() throws {
        let faults = Mutex<[GuestFault]>([])
        let td = try launch { processor throws(GuestFault) in
            do throws(GuestFault) { _ = try processor.read(GuestPhysicalAddress(0x4000), count: 1) } catch {
                faults.withLock { $0.append(error) }
            }
        }
        try td.vcpus[0].preFault(td.range(0x4000, 0x1000))
        #expect(try td.vcpus[0].run() == .halt)
        #expect(faults.withLock { $0 } == [.virtualizationException(GuestPhysicalAddress(0x4000))])
        td.close()
        td.expectNothingLeft()
    }

    @Test func `With SEPT_VE_DISABLE touching a pending page ends the VM`() throws {
        let td = try launch(attributes: 1 << 28) { processor throws(GuestFault) in
            _ = try processor.read(GuestPhysicalAddress(0x4000), count: 1)
        }
        expectErrno(.ioError) { _ = try td.vcpus[0].run() }
        expectErrno(.ioError) { try td.vm.setMemoryAttributes(td.whole, isPrivate: false) }
        #expect(td.vm.inspection.bug == nil)
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `A private access to a shared page is a memory fault until it is converted`(host: TestHost) throws {
        let td = try launch(host) { processor throws(GuestFault) in
            guard try processor.accept(GuestPhysicalAddress(0x7000)).isSuccess else { return }
            try processor.write(GuestPhysicalAddress(0x7000), [7])
        }
        try td.vm.setMemoryAttributes(td.whole, isPrivate: false)
        let fault = VCPUExit.memoryFault(
            isPrivate: true, address: GuestPhysicalAddress(0x7000), size: ByteCount(4096))
        #expect(try td.vcpus[0].run() == fault)
        #expect(try td.vcpus[0].run() == fault)
        try td.vm.setMemoryAttributes(td.whole, isPrivate: true)
        #expect(try td.vcpus[0].run() == .halt)
        #expect(try td.contents(0x7000, 1) == [7])
        td.close()
        td.expectNothingLeft()
    }

    @Test func `A shared access to a private page is a memory fault, and to no slot an MMIO exit`() throws {
        let td = try launch { processor throws(GuestFault) in
            try processor.writeShared(GuestPhysicalAddress(1 << 30), [1, 2])
            try processor.writeShared(GuestPhysicalAddress(0x1000), [3])
        }
        #expect(
            try td.vcpus[0].run() == .mmio(isWrite: true, address: GuestPhysicalAddress(1 << 30), data: [1, 2]))
        #expect(
            try td.vcpus[0].run()
                == .memoryFault(isPrivate: false, address: GuestPhysicalAddress(0x1000), size: ByteCount(4096)))
        // The access was not made: it starts again, and works once the page is shared.
        try td.vm.setMemoryAttributes(td.range(0x1000, 0x1000), isPrivate: false)
        #expect(try td.vcpus[0].run() == .halt)
        #expect(td.shared.baseAddress.load(fromByteOffset: 0x1000, as: UInt8.self) == 3)
        td.close()
        td.expectNothingLeft()
    }

    // MARK: MapGPA (reference/tdx-module.md §2.6)

    /// Runs the guest's MapGPA requests and answers every hypercall exit; the exits' ranges and attributes.
    private func answerHypercalls(
        _ td: TestTD, answer: (Int) -> UInt64 = { _ in 0 }, before: (Int) throws -> Void = { _ in }
    ) throws -> [[UInt64]] {
        var exits: [[UInt64]] = []
        while true {
            let exit = try td.vcpus[0].run()
            guard case .hypercall(12, let arguments) = exit else {
                #expect(exit == .halt)
                return exits
            }
            try before(exits.count)
            td.vcpus[0].completeHypercall(answer(exits.count))
            exits.append(Array(arguments.prefix(3)))
        }
    }

    private static func mapGPA(
        _ results: MutexBox<[[UInt64]]>, _ start: UInt64, _ size: UInt64, toShared: Bool
    ) -> @Sendable (GuestProcessor) throws(GuestFault) -> Void {
        { processor throws(GuestFault) in
            let range = GuestPhysicalRange(start: GuestPhysicalAddress(start), size: ByteCount(size))
            let result = try processor.mapGPA(range, toShared: toShared)
            results.append([result.status, result.next])
        }
    }

    @Test func `MapGPA is split at 2 MiB and ends with success, R11 as the guest passed it`() throws {
        let results = MutexBox<[[UInt64]]>([])
        let td = try launch(
            size: .mebibytes(8), Self.mapGPA(results, 0x20_0000, 0x50_0000, toShared: true))
        #expect(
            try answerHypercalls(td) == [[0x20_0000, 512, 0], [0x40_0000, 512, 0], [0x60_0000, 256, 0]])
        #expect(results.value == [[0, 0x10001]])
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: [(UInt64(11), UInt64(1)), (22, 1 << 63)])
    func `An answer of EAGAIN or EINVAL stops MapGPA at its piece`(answer: UInt64, status: UInt64) throws {
        let results = MutexBox<[[UInt64]]>([])
        let td = try launch(size: .mebibytes(8), Self.mapGPA(results, 0, 0x60_0000, toShared: false))
        let exits = try answerHypercalls(td, answer: { $0 == 1 ? answer : 0 })
        #expect(exits == [[0, 512, 16], [0x20_0000, 512, 16]])
        #expect(results.value == [[status, 0x20_0000]])
        td.close()
        td.expectNothingLeft()
    }

    @Test func `A waiting event stops MapGPA between pieces and never inside the first`() throws {
        let results = MutexBox<[[UInt64]]>([])
        let td = try launch(size: .mebibytes(8)) { processor throws(GuestFault) in
            try Self.mapGPA(results, 0, 0x60_0000, toShared: true)(processor)
            try Self.mapGPA(results, 0, 0x20_0000, toShared: true)(processor)
        }
        let exits = try answerHypercalls(td, before: { index in if index == 1 { td.vcpus[0].postEvent() } })
        #expect(exits.map { $0[0] } == [0, 0x20_0000, 0])
        #expect(results.value == [[1, 1 << 47 | 0x40_0000], [0, 0x10001]])
        td.close()
        td.expectNothingLeft()
    }

    @Test func `A strange answer makes KVM_RUN fail with EINVAL`() throws {
        let td = try launch(.memfd, Self.mapGPA(MutexBox([]), 0, 0x1000, toShared: true))
        _ = try td.vcpus[0].run()
        td.vcpus[0].completeHypercall(5)
        expectErrno(.invalidArgument) { _ = try td.vcpus[0].run() }
        td.close()
    }

    @Test func `MapGPA with bad operands is refused without an exit`() throws {
        let results = MutexBox<[[UInt64]]>([])
        let td = try launch { processor throws(GuestFault) in
            let requests: [(UInt64, UInt64)] = [
                (0, 0), (0x800, 0x1000), (0, 0x1800), (1 << 47 - 0x1000, 0x2000), (1 << 52, 0x1000),
                (UInt64.max - 0xFFF, 0x2000),
            ]
            for (start, size) in requests {
                let answer = try processor.vmcall(0x10001, r12: start, r13: size)
                results.append([answer.r10, answer.r11 == start ? 0 : 1])
            }
            results.append([try processor.vmcall(0x9_9999).r10, 0])
        }
        #expect(try td.vcpus[0].run() == .halt)
        let invalid: UInt64 = 1 << 63
        #expect(
            results.value == [
                [invalid, 0], [invalid | 2, 0], [invalid | 2, 0], [invalid, 0], [invalid, 0], [invalid, 0],
                [invalid | 3, 0],
            ])
        td.close()
    }

    @Test func `Without the capability MapGPA is an unsupported sub-function`() throws {
        let results = MutexBox<[[UInt64]]>([])
        let td = try launch(.memfd, Self.mapGPA(results, 0, 0x1000, toShared: true))
        try td.vm.enable(.exitHypercall, [0])
        expectErrno(.invalidArgument) { try td.vm.enable(.exitHypercall, [2]) }
        #expect(try td.vcpus[0].run() == .halt)
        #expect(results.value == [[1 << 63 | 3, 1 << 47]])
        td.close()
    }

    @Test(arguments: TestHost.available)
    func `A conversion that the guest asks for leaves a zeroed page and nothing of the old one`(host: TestHost) throws {
        let seen = MutexBox<[[UInt64]]>([])
        let td = try launch(host) { processor throws(GuestFault) in
            let page = GuestPhysicalAddress(0x10_0000)
            let range = GuestPhysicalRange(start: page, size: ByteCount(4096))
            _ = try processor.accept(page)
            try processor.write(page, [0xAA, 0xBB])
            _ = try processor.mapGPA(range, toShared: true)
            let first = try processor.readShared(page, count: 2)
            try processor.writeShared(page, [0xCC])
            _ = try processor.mapGPA(range, toShared: false)
            _ = try processor.accept(page)
            let second = try processor.read(page, count: 2)
            seen.append((first + second).map(UInt64.init))
        }
        td.shared.baseAddress.storeBytes(of: 0x55, toByteOffset: 0x10_0000, as: UInt8.self)
        var conversions = 0
        while case .hypercall(12, let arguments) = try td.vcpus[0].run() {
            let range = td.range(arguments[0], arguments[1] * 4096)
            let isPrivate = arguments[2] & 16 != 0
            try td.vm.setMemoryAttributes(range, isPrivate: isPrivate)
            if !isPrivate {
                try td.memory.punchHole(FileRange(offset: ByteCount(arguments[0]), length: range.size))
                try td.expectResident(.zero)
            }
            td.vcpus[0].completeHypercall(0)
            conversions += 1
        }
        #expect(conversions == 2)
        #expect(seen.value == [[0x55, 0, 0, 0]])
        td.close()
        td.expectNothingLeft()
    }

    // MARK: Removal under a running guest

    @Test(arguments: TestHost.available)
    func `E1 a guest that reads in a loop meets a memory fault when its slot is deleted`(host: TestHost) throws {
        let page = GuestPhysicalAddress(0x2000)
        let rounds = Counter()
        let td = try launch(host) { processor throws(GuestFault) in
            _ = try processor.accept(page)
            while true {
                _ = try processor.read(page, count: 8)
                rounds.bump()
            }
        }
        let exits = MutexBox<[VCPUExit]>([])
        let vcpu = td.vcpus[0]
        let thread = Threads.start { exits.append((try? vcpu.run()) ?? .shutdown) }
        while rounds.value < 100, exits.value.isEmpty { sched_yield() }
        expectErrno(.resourceBusy) { try td.vm.tdxTerminate() }
        try td.vm.deleteMemorySlot(0)
        pthread_join(thread, nil)
        #expect(exits.value == [.memoryFault(isPrivate: true, address: page, size: ByteCount(4096))])
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: TestHost.available)
    func `Guests convert disjoint ranges at once and keep what is theirs`(host: TestHost) throws {
        let failures = MutexBox<[String]>([])
        let rounds: UInt64 = 12
        let td = try launch(host, size: .mebibytes(8), vcpus: 3) { processor throws(GuestFault) in
            let base = GuestPhysicalAddress(UInt64(processor.id) << 21)
            for round in 0..<rounds {
                let pages = 1 + (round * 7 + UInt64(processor.id) * 3) % 16
                let range = GuestPhysicalRange(start: base, size: PageCount(pages).bytes)
                for page in 0..<pages {
                    let address = base + PageCount(page).bytes
                    let status = try processor.accept(address)
                    guard status.isSuccess else {
                        failures.append("accept \(address): \(String(status.rawValue, radix: 16))")
                        return
                    }
                    try processor.write(address, [UInt8(truncatingIfNeeded: round), UInt8(page)])
                }
                for page in 0..<pages {
                    let bytes = try processor.read(base + PageCount(page).bytes, count: 3)
                    if bytes != [UInt8(truncatingIfNeeded: round), UInt8(page), 0] { failures.append("\(bytes)") }
                }
                guard try processor.mapGPA(range, toShared: true).status == 0 else { return }
                try processor.writeShared(base, [UInt8(processor.id)])
                let shared = try processor.readShared(base, count: 1)
                if shared != [UInt8(processor.id)] { failures.append("shared \(shared)") }
                guard try processor.mapGPA(range, toShared: false).status == 0 else { return }
            }
        }
        let (vm, memory) = (td.vm, td.memory)
        let errors = Threads.run(
            td.vcpus.map { vcpu in
                {
                    while case .hypercall(12, let arguments) = try vcpu.run() {
                        let range = GuestPhysicalRange(
                            start: GuestPhysicalAddress(arguments[0]), size: ByteCount(arguments[1] * 4096))
                        let isPrivate = arguments[2] & 16 != 0
                        try vm.setMemoryAttributes(range, isPrivate: isPrivate)
                        if !isPrivate {
                            try memory.punchHole(FileRange(offset: ByteCount(arguments[0]), length: range.size))
                        }
                        vcpu.completeHypercall(0)
                    }
                }
            })
        #expect(errors.isEmpty, "\(errors)")
        #expect(failures.value.isEmpty, "\(failures.value)")
        try td.expectResident(.zero)
        td.close()
        td.expectNothingLeft()
    }

    // MARK: Who may call

    /// In a process of its own, where no other test's thread holds a lock in the moment of the fork: the child could wait for it
    /// for ever.
    @Test func `X1 another process gets EIO from the VM and may use the file`() async {
        await #expect(processExitsWith: .success) {
            let td = try TestTD(.memfd)
            try td.add([UInt8](repeating: 1, count: 4096), at: 0)
            let child = childProcess {
                do throws(KVMError) {
                    _ = try td.vm.check(.guestMemfdFlags)
                    return 1
                } catch {
                    guard error.errno == .ioError else { return 2 }
                }
                guard (try? td.resident() ?? PageCount(1)) == PageCount(1) else { return 3 }
                return 0
            }
            var status: Int32 = -1
            while waitpid(child, &status, 0) < 0, errno == EINTR {}
            precondition(status == 0, "the child's status is \(status)")
            td.close()
            td.expectNothingLeft()
        }
    }
}

/// A value behind a lock that closures may share.
final class MutexBox<Value: Sendable>: Sendable {
    private let storage: Mutex<Value>
    init(_ value: Value) { storage = Mutex(value) }
    var value: Value { storage.withLock { $0 } }
    func append<Element: Sendable>(_ element: Element) where Value == [Element] {
        storage.withLock { $0.append(element) }
    }
    func set(_ value: Value) { storage.withLock { $0 = value } }
    func with(_ body: (inout Value) -> Void) { storage.withLock { body(&$0) } }
}

private final class Counter: Sendable {
    private let count = Atomic(0)
    func bump() { count.wrappingAdd(1, ordering: .relaxed) }
    var value: Int { count.load(ordering: .relaxed) }
}

@_silgen_name("fork") private func forkProcess() -> Int32

/// Runs `body` in a forked child, whose exit status is its result and which a signal ends after a minute; the child's process id.
private func childProcess(_ body: () -> Int32) -> pid_t {
    let child = forkProcess()
    if child == 0 {
        alarm(60)
        _exit(body())
    }
    return child
}
