import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import TestSupport
import Testing

/// KVM_TDX_TERMINATE_VM on Linux's own teardown, call by call: the lab's kernel has it as it was posted.
@Suite(
    .serialized, .kernelStaysCalm,
    .enabled(if: SeamLab.isHere && SeamLab.fault == nil, "scripts/test-tdx runs these on Linux's own TDX code"),
    .enabled(if: SeamLab.hasOrders, SeamLab.lacksOrders))
struct LinuxTerminateTests {
    private let kernel: any KVMSystem

    init() throws { kernel = try KernelKVMSystem() }

    private enum Leaf {
        static let rangeBlock = 7
        static let pageReclaim = 28
        static let pageRemove = 29
    }

    @Test func `a kernel without the command answers EINVAL, and the TD lives on`() throws {
        let td = try SeamTD(kernel)
        defer { td.close() }
        expectErrno(.invalidArgument) { try td.vm.tdxTerminate() }
        try td.populate()
    }

    @Test func `a VM without a TD is terminated without a SEAMCALL, and dead`() throws {
        try SeamLab.with(.announced) {
            let vm = try kernel.createVirtualMachine(.tdx)
            defer { vm.close() }
            #expect(try vm.tdxCapabilities().supportedCommands & 1 == 1)
            #expect(try SeamLab.counting { try vm.tdxTerminate() } == [:])
            expectErrno(.ioError) { try vm.tdxTerminate() }
        }
    }

    @Test func `nothing announces the command where it is unannounced`() throws {
        try SeamLab.with(.unannounced) {
            let vm = try kernel.createVirtualMachine(.tdx)
            defer { vm.close() }
            #expect(try vm.tdxCapabilities().supportedCommands == 0)
            try vm.tdxTerminate()
        }
    }

    @Test func `a vCPU in KVM_RUN makes it busy, and once it is out the VM is dead for every call`() throws {
        try SeamLab.with(.announced) {
            let td = try SeamTD(kernel, vcpus: 2)
            defer { td.close() }
            let vcpu = td.vcpus[1]
            let runner = Mutex<(thread: pthread_t, number: Int32)?>(nil)
            let exits = Mutex<[VCPUExit]>([])
            // The guest halts at once: KVM keeps the thread until a signal comes.
            let thread = Threads.start {
                // Threads of Swift's pool block signals, and so do those that they start.
                var kick = sigset_t()
                sigemptyset(&kick)
                sigaddset(&kick, SIGUSR1)
                pthread_sigmask(SIG_UNBLOCK, &kick, nil)
                runner.withLock { $0 = (pthread_self(), CurrentProcess.threadID) }
                if let exit = try? vcpu.run() { exits.withLock { $0.append(exit) } }
            }
            #expect(
                Threads.eventually { runner.withLock { $0 }.map { Threads.isAsleep($0.number) } == true },
                "the vCPU does not halt")
            for _ in 0..<5 { expectErrno(.resourceBusy) { try td.vm.tdxTerminate() } }
            // Busy, it changed nothing.
            try td.populate()
            vcpu.setImmediateExit(true)
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { _ in }
            sigaction(SIGUSR1, &action, nil)
            if let target = runner.withLock({ $0 }) { pthread_kill(target.thread, SIGUSR1) }
            pthread_join(thread, nil)
            #expect(exits.withLock { $0 } == [.interrupted])
            try td.vm.tdxTerminate()
            #expect(try SeamLab.keysInUse() == 0)
            expectErrno(.ioError) { try td.vm.setMemoryAttributes(td.whole, isPrivate: false) }
            expectErrno(.ioError) { _ = try vcpu.run() }
            expectErrno(.ioError) { try td.vm.deleteMemorySlot(0) }
            expectErrno(.ioError) { try td.vm.tdxTerminate() }
        }
    }

    @Test func `a punch behind it takes one SEAMCALL a page, and before it four`() throws {
        try SeamLab.with(.announced) {
            let td = try SeamTD(kernel)
            try td.populate()
            let half = FileRange(offset: .zero, length: .mebibytes(2))
            let rest = FileRange(offset: .mebibytes(2), length: .mebibytes(2))
            let before = try SeamLab.counting { try td.memory.punchHole(half) }
            #expect(before[Leaf.rangeBlock] == 512 && before[Leaf.pageRemove] == 512, "\(before)")
            #expect(before[Leaf.pageReclaim] == nil)
            try td.vm.tdxTerminate()
            let behind = try SeamLab.counting { try td.memory.punchHole(rest) }
            #expect(behind == [Leaf.pageReclaim: 512])
            #expect(try td.memory.residentBytes(FileRange(offset: .zero, length: td.size)) == .zero)
            td.close()
        }
    }

    @Test(arguments: [UInt64](1...6))
    func `however punches and the command meet, each page leaves once`(seed: UInt64) throws {
        try SeamLab.with(.announced) {
            let td = try SeamTD(kernel)
            try td.populate()
            let (vm, memory) = (td.vm, td.memory)
            let failures = Mutex<[String]>([])
            let calls = try SeamLab.counting {
                var random = SeededRandom(seed: seed)
                let delay = UInt32(random.below(60_000))
                let punch = Threads.start {
                    // 32 pages at a time, so that KVM gives the MMU lock back in between.
                    for offset in stride(from: UInt64(0), to: memory.size.rawValue, by: 32 << 12) {
                        do {
                            try memory.punchHole(FileRange(offset: ByteCount(offset), length: ByteCount(32 << 12)))
                        } catch { failures.withLock { $0.append("punch at \(offset): \(error)") } }
                    }
                }
                let terminate = Threads.start {
                    usleep(delay)
                    do { try vm.tdxTerminate() } catch { failures.withLock { $0.append("terminate: \(error)") } }
                }
                pthread_join(punch, nil)
                pthread_join(terminate, nil)
            }
            #expect(failures.withLock { $0 } == [], "seed \(seed)")
            let removed = calls[Leaf.pageRemove] ?? 0
            let reclaimed = calls[Leaf.pageReclaim] ?? 0
            print("seed \(seed): \(removed) pages left the living TD, \(reclaimed) the terminated one")
            #expect(removed + reclaimed == 1024 && (calls[Leaf.rangeBlock] ?? 0) == removed, "seed \(seed): \(calls)")
            td.close()
            #expect(try SeamLab.keysInUse() == 0)
        }
    }

    /// Prints what docs/tdx-backend.md says of the lab; asserts the counts, and no time.
    @Test(
        .enabled(if: !SeamLab.sizes.isEmpty, "TDXD_SEAM_SIZES names no size"), arguments: SeamLab.sizes, [true, false])
    func `figures of both orders`(mebibytes: UInt64, terminatesFirst: Bool) throws {
        try SeamLab.with(.announced) {
            let td = try SeamTD(kernel, size: .mebibytes(mebibytes), vcpus: 2)
            try td.populate()
            let pages = mebibytes << 8
            var lines: [String] = []
            func measure(_ name: String, _ body: () throws -> Void) throws -> [Int: UInt64] {
                let begin = MonotonicInstant.now
                let calls = try SeamLab.counting(body)
                let milliseconds = MonotonicInstant.now.milliseconds(since: begin)
                lines.append("\(name) \(milliseconds) ms, \(calls.values.reduce(0, +)) SEAMCALLs")
                return calls
            }
            if terminatesFirst { _ = try measure("terminate") { try td.vm.tdxTerminate() } }
            let calls = try measure("punch") {
                for offset in stride(from: UInt64(0), to: td.size.rawValue, by: 2 << 20) {
                    try td.memory.punchHole(FileRange(offset: ByteCount(offset), length: .mebibytes(2)))
                }
            }
            _ = try measure("close") { td.close() }
            let order = terminatesFirst ? "terminate first" : "page by page"
            print("\(mebibytes) MiB, \(order): \(lines.joined(separator: "; "))")
            if terminatesFirst {
                #expect(calls == [Leaf.pageReclaim: pages])
            } else {
                #expect(calls[Leaf.pageRemove] == pages && calls.values.reduce(0, +) == 4 * pages, "\(calls)")
            }
        }
    }
}
