import ControlInterface
import LinuxSystem
import Testing

@testable import TDXDaemon

/// What a certificate says of a last will, on kernels that no machine at hand has.
struct LastWillOutcomeTests {
    typealias Record = LastWillRecord

    private static func ending(_ record: Record, isFinal: Bool = true) -> EndReport {
        var ending = EndReport(record: Sample.record("web1"), holderDied: true)
        ending.take(LastWillRecord.Reading(record: record, isFinal: isFinal), waited: 1.5)
        return ending
    }

    @Test func `a TD that its last will terminated was terminated first`() {
        let start = MonotonicInstant(nanoseconds: 1_000_000)
        let ending = Self.ending(
            Record(state: .acted, pid: 7, attempts: 3, noticed: start, done: start.adding(milliseconds: 20)))
        #expect(ending.path == .terminateFirst)
        #expect(ending.phases.map(\.name) == [.lastWill])
        #expect(ending.phases.first?.milliseconds == 20 && ending.phases.first?.calls == 3)
        #expect(ending.phases.first?.detail == "process 7: KVM_TDX_TERMINATE_VM was answered 0")
    }

    @Test(arguments: [
        (
            Record(state: .acted, pid: 7, result: -16, attempts: 100, status: 0x8000_0200_0000_0000), true,
            "KVM_TDX_TERMINATE_VM was refused: ioctl: EBUSY (Device or resource busy), TDX status 0x8000020000000000"
        ),
        (Record(state: .acted, pid: 7, result: 32764, isRehearsal: true), true, "nothing was terminated"),
        (Record(state: .armed, pid: 7), true, "did not act"),
        (Record(state: .armed, pid: 7), false, "has not ended"),
        (Record(state: .standingBy, pid: 7), false, "has not ended"),
    ])
    func `whatever else a last will did, the TD counts as removed while it lived`(
        record: Record, isFinal: Bool, words: String
    ) {
        let ending = Self.ending(record, isFinal: isFinal)
        #expect(ending.path == .dynamicRemoval)
        #expect(ending.phases.first?.detail?.contains(words) == true, "\(ending.phases)")
    }

    @Test(arguments: [Record.State.standingBy, .notNeeded])
    func `a last will without anything to do is not mentioned`(state: Record.State) {
        #expect(Self.ending(Record(state: state, pid: 7)).phases.isEmpty)
    }
}
