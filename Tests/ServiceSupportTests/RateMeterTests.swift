import LinuxSystem
import ServiceSupport
import Testing

@Suite struct RateMeterTests {
    static func at(_ milliseconds: UInt64) -> MonotonicInstant { .init(nanoseconds: milliseconds * 1_000_000) }

    @Test func `a rate is told as soon as there is enough to tell, with the time that is left`() {
        var meter = RateMeter()
        #expect(meter.note(0, of: 1000, at: Self.at(0)) == nil)
        #expect(meter.note(10, of: 1000, at: Self.at(100)) == nil)
        #expect(meter.note(100, of: 1000, at: Self.at(1000)) == .init(perSecond: 100, secondsLeft: 9))
    }

    @Test func `a change of pace is seen within the window`() {
        var meter = RateMeter()
        for step in 0...100 { _ = meter.note(UInt64(step) * 1000, of: 0, at: Self.at(UInt64(step) * 100)) }
        var last: RateMeter.Reading?
        for step in 1...60 {
            last = meter.note(100_000 + UInt64(step), of: 0, at: Self.at(10_000 + UInt64(step) * 100))
        }
        #expect(last.map { $0.perSecond < 20 } == true, "\(String(describing: last))")
        #expect(last?.secondsLeft == nil)
    }

    @Test func `what stands still has no time left, and what begins anew is measured anew`() {
        var meter = RateMeter()
        _ = meter.note(500, of: 1000, at: Self.at(0))
        #expect(meter.note(500, of: 1000, at: Self.at(1000)) == .init(perSecond: 0, secondsLeft: nil))
        #expect(meter.note(10, of: 1000, at: Self.at(2000)) == nil)
    }
}
