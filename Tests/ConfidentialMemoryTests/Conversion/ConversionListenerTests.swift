import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import Testing

@testable import ConfidentialMemory

@Suite struct ConversionListenerTests {
    @Test func `a listener lets go before the old side is discarded, and hears when the new one is ready`() throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        try memory.fill(range(0, mebibytes: 4), with: 1)
        bench.journal.reset()
        _ = memory.listeners.add(name: "device", milliseconds: 60_000) { notice in
            bench.journal.note("notice", "\(notice.moment) \(notice.range) \(notice.side)")
            // Answers come from another thread, as a device's would.
            _ = try? SystemThread(name: "device") { notice.answer(true) }
        }
        try memory.convert(range(0, mebibytes: 4), to: .private, chunk: .mebibytes(2))
        let calls = bench.journal.calls.filter { ["attributes", "notice", "punch"].contains($0.name) }
        #expect(
            calls.map(\.description).prefix(4) == [
                "attributes 0x0–0x200000 (2 MiB) private", "notice leaving 0x0–0x200000 (2 MiB) private",
                "punch shared 0 B + 2 MiB", "notice settled 0x0–0x200000 (2 MiB) private",
            ])
        #expect(calls.count == 8)
        #expect(memory.listeners.lost.isEmpty)
    }

    @Test func `other processes read what is in transition while it is, and what has become of it`() throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        let reader = try FigureReader(try memory.publishedCounts().duplicateDescriptor())
        try memory.convert(range(0, mebibytes: 4), to: .private)
        try memory.convert(range(1 << 20, mebibytes: 1), to: .shared)
        let seen = Mutex<[SIMD4<UInt64>?]>([])
        _ = memory.listeners.add(name: "reader", milliseconds: 60_000) { notice in
            seen.withLock { $0.append(reader.read()) }
            notice.answer(true)
        }
        let all = memory.counts().total.rawValue
        // One of the four MiB is shared already.
        try memory.convert(range(0, mebibytes: 4), to: .shared)
        #expect(seen.withLock { $0 } == [[all - 768, 0, 0, 768], [all, 0, 0, 0]])
        #expect(reader.read() == memory.counts().pages)
    }

    @Test func `who refuses or never answers is cut off, and the guest's conversion goes through`() throws {
        let bench = TestBench()
        let (memory, machine) = try bench.makeMemory()
        let told = Mutex<[String]>([])
        _ = memory.listeners.add(name: "dead", milliseconds: 1, notify: { _ in }) { why in
            told.withLock { $0.append(why) }
        }
        _ = memory.listeners.add(name: "stubborn", milliseconds: 60_000, notify: { $0.answer(false) }) { why in
            told.withLock { $0.append(why) }
        }
        let heard = Mutex(0)
        _ = memory.listeners.add(name: "good", milliseconds: 60_000) { notice in
            heard.withLock { $0 += 1 }
            notice.answer(true)
        }
        #expect(try memory.convert(range(0, mebibytes: 4), to: .private, chunk: .mebibytes(2)).changed == .mebibytes(4))
        #expect(
            told.withLock { $0 } == [
                "dead did not answer within 1.0 ms", "stubborn refused to follow 0x0–0x200000 (2 MiB)",
            ])
        #expect(memory.listeners.lost == told.withLock { $0 })
        #expect(heard.withLock { $0 } == 4)
        #expect(try memory.disagreement(with: machine.inner as! PlainMachine) == nil)
    }

    @Test func `who is removed hears nothing more`() throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        let heard = Mutex(0)
        let id = memory.listeners.add(name: "gone", milliseconds: 60_000) { notice in
            heard.withLock { $0 += 1 }
            notice.answer(true)
        }
        memory.listeners.remove(id)
        try memory.convert(range(0, mebibytes: 2), to: .private)
        #expect(heard.withLock { $0 } == 0)
    }
}
