import Glibc
import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import TDXModule
import TestSupport
import Testing

@testable import TDXEmulator

/// Punches that race with KVM_TDX_TERMINATE_VM: while the key id is being released nothing is unmapped from the TD.
/// Source: reference/kvm.md §5.3.
struct TerminateRaceTests {
    /// The module's calls in the order in which they ended.
    private final class CallLog: Sendable {
        private let leaves = Mutex<[SeamcallLeaf]>([])

        init(_ td: TestTD) {
            td.vm.machine.host.module.record { [unowned self] event in
                guard let leaf = SeamcallLeaf(rawValue: UInt16(truncatingIfNeeded: event.before.rax)) else { return }
                leaves.withLock { $0.append(leaf) }
            }
        }

        var all: [SeamcallLeaf] { leaves.withLock { $0 } }

        func count(_ leaf: SeamcallLeaf) -> Int { all.count { $0 == leaf } }
    }

    /// What takes a page from a TD, alive or not.
    private static let unmapping: Set<SeamcallLeaf> = [
        .memRangeBlock, .memTrack, .memPageRemove, .phymemPageWbinvd, .phymemPageReclaim,
    ]

    @Test(arguments: TestHost.available)
    func `While the key id is being released a punch unmaps nothing, and what is not mapped is freed`(
        host: TestHost
    ) throws {
        let td = try TestTD(host, vcpus: 2)
        let pages = 8
        try td.add([UInt8](repeating: 1, count: pages * 4096), at: 0)
        // A file that is in no slot: punching it has nothing to unmap.
        let other = try td.vm.createGuestMemory(size: .mebibytes(2), flags: [])
        let wholeOther = FileRange(offset: .zero, length: .mebibytes(2))
        try other.allocate(wholeOther)
        try td.vm.tdxFinalize()
        let log = CallLog(td)
        let (vm, memory, whole) = (td.vm, td.memory, td.wholeFile)

        // Another TD of the host is at the calls that only one may make at a time: the release stands still half-way.
        td.vm.machine.host.tdxLock.lock()
        let hasPunched = Atomic<Bool>(false)
        let puncher = Atomic<Int32>(0)
        let failures = Mutex<[String]>([])
        let terminate = Threads.start {
            do { try vm.tdxTerminate() } catch { failures.withLock { $0.append("terminate: \(error)") } }
        }
        #expect(Threads.eventually { log.count(.vpFlush) == 2 })
        let punch = Threads.start {
            puncher.store(CurrentProcess.threadID, ordering: .releasing)
            do { try memory.punchHole(whole) } catch { failures.withLock { $0.append("punch: \(error)") } }
            hasPunched.store(true, ordering: .releasing)
        }
        #expect(
            Threads.eventually {
                let thread = puncher.load(ordering: .acquiring)
                return hasPunched.load(ordering: .acquiring) || thread != 0 && Threads.isAsleep(thread)
            })
        #expect(log.all.allSatisfy { !Self.unmapping.contains($0) }, "\(log.all)")
        // The freeing half needs no lock of the release.
        let hasFreed = Atomic<Bool>(false)
        let free = Threads.start {
            do { try other.punchHole(wholeOther) } catch { failures.withLock { $0.append("free: \(error)") } }
            hasFreed.store(true, ordering: .releasing)
        }
        #expect(Threads.eventually { hasFreed.load(ordering: .acquiring) })
        if let left = try? other.residentBytes(wholeOther) { #expect(left == .zero) }
        #expect(log.count(.mngKeyFreeid) == 0 && td.system.freeKeyIDs == 0)
        let wasDone = hasPunched.load(ordering: .acquiring)
        #expect(!wasDone)
        #expect(log.all.allSatisfy { !Self.unmapping.contains($0) }, "\(log.all)")

        td.vm.machine.host.tdxLock.unlock()
        pthread_join(terminate, nil)
        pthread_join(punch, nil)
        pthread_join(free, nil)
        #expect(failures.withLock { $0 } == [])
        // What waited found a TD without key id: one call a page.
        let calls = log.all
        let released = try #require(calls.firstIndex(of: .mngKeyFreeid))
        #expect(calls[released...].count { $0 == .phymemPageReclaim } == pages)
        #expect(!calls.contains(.memRangeBlock) && !calls.contains(.memPageRemove))
        try td.expectResident(.zero)
        other.close()
        td.close()
        td.expectNothingLeft()
    }

    @Test(arguments: [UInt64](1...12))
    func `However punches and terminate meet, each page leaves once and none during the release`(seed: UInt64) throws {
        let td = try TestTD(.memfd, vcpus: 4, configure: { $0.packages = 4 })
        let pages: UInt64 = 256
        try td.add([UInt8](repeating: 1, count: Int(pages) * 4096), at: 0)
        try td.vm.tdxFinalize()
        let log = CallLog(td)
        let (vm, memory) = (td.vm, td.memory)
        let punchers = 3
        let hasBegun = Atomic<Int>(0)
        let work: [@Sendable () throws -> Void] =
            (0..<punchers).map { number in
                { @Sendable in
                    var random = SeededRandom(seed: seed &* 31 &+ UInt64(number))
                    hasBegun.add(1, ordering: .relaxed)
                    // Every page at least once, in an order of this thread's own.
                    for block in (0..<pages / 8).shuffled(using: &random) {
                        try memory.punchHole(
                            FileRange(offset: ByteCount(block * 8 * 4096), length: ByteCount(8 * 4096)))
                    }
                }
            } + [
                { @Sendable in
                    var random = SeededRandom(seed: seed)
                    while hasBegun.load(ordering: .relaxed) == 0 { sched_yield() }
                    // Behind a part of the calls that removing all pages alive would take.
                    let calls = Int.random(in: 0...Int(pages) * 4, using: &random)
                    let end = MonotonicInstant.now + .seconds(60)
                    while log.all.count < calls, hasPages(memory), MonotonicInstant.now < end { sched_yield() }
                    try vm.tdxTerminate()
                }
            ]
        let failures = Threads.run(work)
        #expect(failures.isEmpty, "seed \(seed): \(failures)")
        let calls = log.all
        let begin = try #require(calls.firstIndex(of: .vpFlush), "seed \(seed)")
        let end = try #require(calls.firstIndex(of: .mngKeyFreeid), "seed \(seed)")
        #expect(calls[begin...end].allSatisfy { !Self.unmapping.contains($0) }, "seed \(seed): \(calls[begin...end])")
        // Before it four calls a page, behind it one.
        let removed = calls[..<begin].count { $0 == .memPageRemove }
        for leaf in [SeamcallLeaf.memRangeBlock, .memTrack, .phymemPageWbinvd] {
            #expect(calls[..<begin].count { $0 == leaf } == removed, "seed \(seed): \(leaf)")
            #expect(!calls[end...].contains(leaf), "seed \(seed): \(leaf)")
        }
        #expect(calls[end...].count { $0 == .phymemPageReclaim } == Int(pages) - removed, "seed \(seed)")
        try td.expectResident(.zero)
        #expect(td.vm.inspection.privatePages == .zero && td.vm.inspection.bug == nil)
        td.close()
        td.expectNothingLeft()
    }
}

/// Whether pages are still there to be punched.
private func hasPages(_ memory: EmulatedGuestMemory) -> Bool {
    let whole = FileRange(offset: .zero, length: memory.size)
    return (try? memory.residentBytes(whole)) != .zero
}
