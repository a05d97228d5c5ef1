import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing
import TransitionModel

@testable import TDXEmulator

/// A guest's kernel that converts by a chosen protocol, and a second CPU that loads from the range between any two steps,
/// its TLB full. Both vCPUs run on the test's thread in turns: a guest hands its turn back by HLT.
@Suite struct GuestTransitionTests {
    /// One case of the tests: a protocol, a way, a kind of address.
    struct Case: CustomTestStringConvertible, Sendable {
        var transition: TransitionProtocol
        var direction: TransitionDirection
        var kind: AddressKind
        var testDescription: String { "\(transition.name), \(direction.rawValue), \(kind.rawValue)" }

        static func all(_ transitions: [TransitionProtocol]) -> [Case] {
            transitions.flatMap { transition in
                TransitionDirection.allCases.flatMap { direction in
                    AddressKind.allCases.map { Case(transition: transition, direction: direction, kind: $0) }
                }
            }
        }
    }

    private static let frames: [GuestFrameNumber] = [GuestFrameNumber(16), GuestFrameNumber(18), GuestFrameNumber(17)]

    /// What a run came to.
    private struct Run: Sendable {
        var conversion: GuestConversion?
        var outcome: GuestConversion.Outcome? { conversion?.outcome }
        var counts: TransitionCounts { conversion?.counts ?? TransitionCounts() }
        /// The exit that no MapGPA asked for, and the step after which it came.
        var fault: VCPUExit?
        var faultAfter: TransitionStep?
        /// What the second CPU read of the range's first page between the steps.
        var seen: [UInt8] = []
    }

    /// Hands the turn to the test, by a write to a port.
    private static func halt(_ processor: GuestProcessor) throws(GuestFault) {
        _ = try processor.vmcall(30, r12: 1, r13: 1, r14: 0x80)
    }

    /// Converts three pages by the case's protocol. Between the steps every CPU in `readers` loads from every page of the
    /// range and from every alias. With `answer` the host says something else than success to MapGPA.
    private func run(
        _ test: Case, readers: Set<UInt32> = [0, 1], answer: @escaping (_ exit: Int) -> UInt64 = { _ in 0 }
    ) throws -> Run {
        let tables = GuestPageTables()
        let state = MutexBox(Run())
        let range = MutexBox<GuestVirtualRange?>(nil)
        let alias = MutexBox<[GuestVirtualAddress]>([])
        let last = MutexBox<TransitionStep?>(nil)
        @Sendable func load(_ kernel: GuestKernel) throws(GuestFault) {
            guard readers.contains(kernel.processor.id), let range = range.value else { return }
            for address in range.pages.map({ GuestVirtualAddress($0 * 4096) }) + alias.value {
                // A word that begins on one page and, but for the last, ends on the next.
                let bytes = try kernel.readPadded(address, count: 8)
                if address == range.start, kernel.processor.id == 1 { state.with { $0.seen.append(bytes[0]) } }
            }
        }
        let program = GuestProgram { processor throws(GuestFault) in
            let kernel = GuestKernel(
                processor, acceptance: .eager, tables: tables, transition: test.transition)
            guard processor.id == 0 else {
                while true {
                    try load(kernel)
                    try Self.halt(processor)
                }
            }
            let all = GuestPhysicalRange(start: GuestPhysicalAddress(0), size: .mebibytes(1))
            guard try kernel.accept(all) else { return }
            let linear = GuestVirtualRange(
                start: tables.linear(Self.frames[0].address), size: ByteCount(3 * 4096))
            if test.direction == .toPrivate {
                let setup = GuestKernel(processor, acceptance: .eager, tables: tables)
                guard try setup.convert(linear, .toShared) == .done else { return }
            }
            for (index, frame) in Self.frames.enumerated() { try kernel.write(frame.address, [UInt8(index) + 1]) }
            let mapped = tables.map(Self.frames)
            range.set(test.kind == .linear ? linear : mapped)
            alias.set((test.kind == .linear ? mapped : linear).pages.map { GuestVirtualAddress($0 * 4096) })
            try Self.halt(processor)
            var conversion = kernel.beginConversion(range.value!, test.direction)
            while let next = conversion.next {
                _ = try conversion.step()
                last.set(next)
                state.with { $0.conversion = conversion }
                try load(kernel)
                try Self.halt(processor)
            }
        }
        let td = try TestTD(.memfd, vcpus: 2, configure: { $0.guest = program })
        try td.vm.tdxFinalize()
        var asked = 0
        /// Runs a vCPU until its guest hands over; the exit that stopped it otherwise.
        func turn(_ vcpu: EmulatedVirtualCPU) throws -> VCPUExit? {
            while true {
                switch try vcpu.run() {
                case .hypercall(12, let arguments):
                    // The conversion that prepares the case is answered as asked, by one exit.
                    let result = range.value == nil ? 0 : answer(asked)
                    if range.value != nil { asked += 1 }
                    if result == 0 {
                        let pages = td.range(arguments[0], arguments[1] * 4096)
                        try td.vm.setMemoryAttributes(pages, isPrivate: arguments[2] & 16 != 0)
                    }
                    vcpu.completeHypercall(result)
                case .halt, .io: return nil
                case let exit: return exit
                }
            }
        }
        #expect(try turn(td.vcpus[0]) == nil)
        #expect(range.value != nil, "the case was not prepared")
        // The second CPU reads everything once: its TLB is full before the conversion begins.
        #expect(try turn(td.vcpus[1]) == nil)
        steps: while state.value.outcome == nil {
            for vcpu in td.vcpus {
                guard let exit = try turn(vcpu) else { continue }
                state.with {
                    $0.fault = exit
                    $0.faultAfter = last.value
                }
                break steps
            }
        }
        td.close()
        td.expectNothingLeft()
        return state.value
    }

    @Test(arguments: Case.all([.presentClearing, .presentClearingMerged, .alwaysPresent]))
    func `A conversion touches and flushes what the explorer counts`(test: Case) throws {
        let run = try run(test, readers: [])
        let report = TransitionExplorer.explore(test.transition, pages: 1)
        #expect(run.outcome == .done)
        #expect(run.counts.pages == 3)
        #expect(run.counts.pageTableTouches == 3 * report.pageTableTouches)
        #expect(run.counts.tlbFlushes == report.tlbFlushes)
        #expect(run.counts.cacheFlushes == 1)
        // Pages 16, 17, 18 in the linear map are asked for at once; 16, 18, 17 are no range.
        #expect(run.counts.notifications == (test.kind == .linear ? 1 : 3))
    }

    @Test(arguments: Case.all([.presentClearing, .presentClearingMerged]))
    func `No load at any step leaves the guest where PRESENT is cleared first`(test: Case) throws {
        #expect(TransitionExplorer.explore(test.transition).safe)
        let run = try run(test)
        #expect(run.fault == nil, "after \(String(describing: run.faultAfter))")
        #expect(run.outcome == .done)
        // The stale TLB showed the old contents until the first flush; then loads were padded; then the page is new.
        #expect(run.seen.first == 1 && run.seen.contains(0))
    }

    @Test(arguments: Case.all([.alwaysPresent]))
    func `A load meets a memory fault where the range stays present, as the explorer foretells`(test: Case) throws {
        #expect(!TransitionExplorer.explore(test.transition).safe)
        let run = try run(test)
        guard case .memoryFault(let isPrivate, let address, _) = run.fault else {
            Issue.record("no memory fault: \(String(describing: run.fault))")
            return
        }
        // Shared by the page tables, private at the host: both ways there is a moment for it.
        #expect(!isPrivate)
        #expect(Self.frames.contains(address.frame))
        // To shared: until the flush both TLBs say private, as the host does; then the tables say shared. To private: the
        // host knows, the attribute is the old one.
        #expect(run.faultAfter == (test.direction == .toShared ? .flushTLBs : .notifyBefore))
        #expect(run.outcome == nil)
    }

    @Test(arguments: AddressKind.allCases)
    func `A stale TLB is what a missing flush leaves behind`(kind: AddressKind) throws {
        let early = TransitionProtocol(
            name: "early", summary: "",
            steps: [.removeAliases, .clearPresentAndChangeAttribute, .notify, .flushTLBs, .accept, .setPresent])
        #expect(!TransitionExplorer.explore(early).safe)
        let test = Case(transition: early, direction: .toShared, kind: kind)
        let run = try run(test, readers: [1])
        // The tables have nothing present: only what the second CPU remembers can reach the page, as private.
        #expect(run.faultAfter == .notify)
        guard case .memoryFault(isPrivate: true, _, _) = run.fault else {
            Issue.record("\(String(describing: run.fault))")
            return
        }
        // A CPU whose TLB is empty is stopped by the tables.
        #expect(try self.run(test, readers: []).outcome == .done)
    }

    @Test(arguments: TransitionDirection.allCases)
    func `The notification finds an address by walking on where PRESENT is clear`(direction: TransitionDirection) throws
    {
        func outcome(_ transition: TransitionProtocol, _ kind: AddressKind) throws -> GuestConversion.Outcome? {
            try run(Case(transition: transition, direction: direction, kind: kind), readers: []).outcome
        }
        let plain = TransitionProtocol.presentClearingWithPlainWalk
        #expect(try outcome(plain, .linear) == .done)
        guard case .untranslatable(let address) = try outcome(plain, .vmalloc) else {
            Issue.record("a walk that stops at a clear PRESENT bit found something")
            return
        }
        #expect(address == GuestPageTables.vmallocBase)
        #expect(try outcome(.presentClearing, .vmalloc) == .done)
    }

    @Test func `What the host puts off is asked for again, and what it refuses stays unreachable`() throws {
        let test = Case(transition: .presentClearingMerged, direction: .toShared, kind: .vmalloc)
        let later = UInt64(Errno.resourceTemporarilyUnavailable.rawValue)
        let patient = try run(test, answer: { $0 == 1 ? later : 0 })
        #expect(patient.outcome == .done)
        #expect(patient.counts.notifications == 4)
        let refused = try run(test, answer: { $0 == 1 ? UInt64(Errno.invalidArgument.rawValue) : 0 })
        #expect(refused.outcome == .refused(status: 1 << 63))
        #expect(refused.counts.notifications == 2)
        // Loads from the range go on being padded: nothing reaches the page that is half converted.
        #expect(refused.fault == nil)
    }

    @Test func `Contents stay on the side that they were written to, and a second conversion has no alias to remove`()
        throws
    {
        let read = MutexBox<[[UInt8]]>([])
        let total = MutexBox(TransitionCounts())
        let program = GuestProgram { processor throws(GuestFault) in
            let tables = GuestPageTables()
            let kernel = GuestKernel(processor, tables: tables)
            let page = GuestPhysicalAddress(0x5000)
            let range = GuestVirtualRange(start: tables.map([page.frame]).start, size: ByteCount(4096))
            try kernel.write(page, [1])
            guard try kernel.convert(range, .toShared) == .done else { return }
            read.append(try kernel.read(range.start, count: 1))
            try kernel.write(range.start, [2])
            guard try kernel.convert(range, .toPrivate) == .done else { return }
            read.append(try kernel.read(range.start, count: 1))
            do throws(GuestFault) { _ = try kernel.read(page, count: 1) } catch {
                // The linear map was the alias: it stays removed.
                if error == .pageFault(tables.linear(page)) { read.append([]) }
            }
            total.set(tables.counts)
        }
        let td = try TestTD(.memfd, configure: { $0.guest = program })
        try td.vm.tdxFinalize()
        while case .hypercall(12, let arguments) = try td.vcpus[0].run() {
            let isPrivate = arguments[2] & 16 != 0
            let range = td.range(arguments[0], arguments[1] * 4096)
            try td.vm.setMemoryAttributes(range, isPrivate: isPrivate)
            if !isPrivate { try td.memory.punchHole(FileRange(offset: ByteCount(arguments[0]), length: range.size)) }
            td.vcpus[0].completeHypercall(0)
        }
        #expect(read.value == [[0], [0], []])
        #expect(td.shared.baseAddress.load(fromByteOffset: 0x5000, as: UInt8.self) == 2)
        #expect(total.value.pages == 2)
        #expect(total.value.pageTableTouches == 3 + 2)
        #expect(total.value.tlbFlushes == 2)
        td.close()
        td.expectNothingLeft()
    }
}
