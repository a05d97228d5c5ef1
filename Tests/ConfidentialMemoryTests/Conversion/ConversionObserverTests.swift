import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import Testing

@testable import ConfidentialMemory

@Suite struct ConversionObserverTests {
    private static func record(
        _ megabyte: UInt64, _ side: MemorySide, microseconds: UInt64, at start: UInt64 = 0
    ) -> ConversionRecord {
        ConversionRecord(
            range: range(megabyte << 20, mebibytes: 2), side: side, origin: .guest, requests: 1,
            result: ConversionResult(), start: MonotonicInstant(nanoseconds: start),
            end: MonotonicInstant(nanoseconds: start + microseconds * 1000))
    }

    @Test func `the last thousand conversions are kept, oldest first`() {
        let observer = ConversionObserver()
        for number in 0..<UInt64(1_234) {
            observer.note(Self.record(0, .private, microseconds: 1, at: number * 1_000_000))
        }
        let records = observer.records()
        #expect(records.count == 1_000)
        #expect(records.first?.start.nanoseconds == 234_000_000)
        #expect(records.last?.start.nanoseconds == 1_233_000_000)
    }

    @Test func `times and sizes are told for each direction, within one per cent`() {
        let observer = ConversionObserver()
        for time in 1...UInt64(1_000) { observer.note(Self.record(0, .shared, microseconds: time)) }
        let shared = observer.statistics(to: .shared)
        #expect(shared.latency.count == 1_000)
        #expect((495...505).contains(shared.latency.median))
        #expect((980...1_000).contains(shared.latency.percentile99))
        #expect((1_000...1_010).contains(shared.latency.maximum))
        #expect((2 << 20..<2 << 20 + 2 << 14).contains(shared.size.median))
        #expect(observer.statistics(to: .private).latency.count == 0)
    }

    @Test func `conversions of a guest are counted with their failures`() throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        try memory.fill(range(0, mebibytes: 2), with: 1)
        try memory.convert(range(0, mebibytes: 4), to: .private)
        bench.journal.fail { $0.name == "attributes" ? .ioError : nil }
        #expect(throws: ConversionError.self) { try memory.convert(range(0, mebibytes: 2), to: .shared) }
        let toPrivate = memory.observer.statistics(to: .private)
        #expect(toPrivate.changed == .mebibytes(4) && toPrivate.discarded == .mebibytes(2))
        #expect(toPrivate.failures == 0 && toPrivate.size.count == 1)
        #expect(memory.observer.statistics(to: .shared).failures == 1)
        #expect(memory.observer.records().map(\.side) == [.private, .shared])
        #expect(memory.observer.records()[1].failure?.end == GuestPhysicalAddress(0))
    }

    @Test func `the hottest blocks are found among many cool ones`() {
        var blocks = HotBlocks(capacity: 8)
        for round in 0..<UInt64(1_000) {
            blocks.touch(7)
            if round % 2 == 0 { blocks.touch(9) }
            blocks.touch(1_000 + round)
        }
        #expect(blocks.blocks.prefix(2).map(\.address.rawValue) == [7 << 21, 9 << 21])
        #expect(blocks.blocks[0].conversions >= 1_000)
        #expect(blocks.blocks.count == 8)
    }

    @Test func `a storm is counted once, however long it lasts, and again when it comes back`() {
        var storm = StormDetector(StormRule(conversions: 10, milliseconds: 100))
        /// How many storms began.
        func burst(_ count: Int, window: UInt64) -> Int {
            (0..<count).count { _ in storm.note(window * 100_000_000) }
        }
        #expect(burst(10, window: 1) == 0)
        #expect(storm.storms == 0)
        #expect(burst(11, window: 2) == 1)
        #expect(burst(50, window: 3) == 0)
        #expect(storm.storms == 1)
        #expect(burst(3, window: 4) == 0)
        #expect(burst(11, window: 5) == 1)
        #expect(storm.storms == 2)
        #expect(burst(11, window: 9) == 1)
        #expect(storm.storms == 3)
    }

    @Test func `a storm rages from its first conversion too many until a window has passed with few`() {
        var storm = StormDetector(StormRule(conversions: 2, milliseconds: 100))
        #expect(storm.status(at: 0).since == nil)
        for time in [100, 110, 120, 130] as [UInt64] { _ = storm.note(time * 1_000_000) }
        func since(_ milliseconds: UInt64) -> UInt64? { storm.status(at: milliseconds * 1_000_000).since?.nanoseconds }
        #expect(since(199) == 120_000_000)
        // The next window is not over, so nobody knows yet.
        #expect(since(299) == 120_000_000)
        #expect(since(300) == nil)
        _ = storm.note(210_000_000)
        #expect(since(299) == 120_000_000)
        #expect(since(300) == nil)
        #expect(storm.status(at: 400_000_000).storms == 1)
    }

    @Test func `whoever listens hears of what was refused and of a storm's beginning, and of nothing else`() throws {
        let heard = Mutex<[ConversionEvent]>([])
        let observer = ConversionObserver(storm: StormRule(conversions: 3, milliseconds: 3_600_000)) { event, _ in
            heard.withLock { $0.append(event) }
        }
        func failure(_ reason: IncompleteConversion.Reason) -> IncompleteConversion {
            IncompleteConversion(
                range: range(0, mebibytes: 2), side: .shared, end: GuestPhysicalAddress(0), result: ConversionResult(),
                reason: reason)
        }
        var record = Self.record(0, .shared, microseconds: 1)
        observer.note(record)
        record.failure = failure(.cancelled)
        observer.note(record)
        #expect(heard.withLock { $0.isEmpty })
        record.failure = failure(.refused(KVMError("fallocate", .ioError)))
        observer.note(record)
        record.number = 3
        #expect(heard.withLock { $0 } == [.failed(record)])
        for _ in 0..<5 { observer.note(Self.record(0, .shared, microseconds: 1)) }
        let events = heard.withLock { $0 }
        #expect(events.count == 2)
        guard case .stormBegan(let status) = events.last else {
            Issue.record("\(events)")
            return
        }
        #expect(status.storms == 1 && status.since != nil && status.rule.conversions == 3)
        let shared = observer.statistics(to: .shared)
        #expect(shared.failures == 1 && shared.cancelled == 1 && shared.count == 8)
        #expect(observer.records(after: 6).map(\.number) == [7, 8])
    }

    @Test func `a report has the last conversions and everything that was counted`() {
        let observer = ConversionObserver()
        for number in 0..<UInt64(1_500) { observer.note(Self.record(2 * (number % 3), .private, microseconds: 5)) }
        observer.note(Self.record(2, .shared, microseconds: 7))
        let report = observer.report(last: 2)
        #expect(report.records.map(\.number) == [1_500, 1_501])
        #expect(report.toPrivate.count == 1_500 && report.toShared.count == 1)
        #expect(report.hottest.map(\.conversions) == [501, 500, 500])
        #expect(report.hottest.first?.address.rawValue == 2 << 20)
        #expect(report.storm.storms == 0 && report.storm.since == nil)
        #expect(observer.report(last: 0).records.isEmpty)
        #expect(observer.report().records.count == 1_000)
    }
}
