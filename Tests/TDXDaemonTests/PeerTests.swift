import ControlInterface
import Testing

@testable import TDXDaemon

@Suite struct PeerTests {
    static let policy = PeerPolicy(ownUID: 990, operatorGroup: 991, operatorGroupName: "tdx", othersMayObserve: true)

    @Test(arguments: [
        (UInt32(0), [UInt32(0)], true, true), (990, [990], true, true), (1000, [1000, 991], true, true),
        (1000, [1000], true, false),
    ])
    func `root, the daemon's user and the group may change things, others may look`(
        uid: UInt32, groups: [UInt32], mayObserve: Bool, mayChange: Bool
    ) {
        #expect(Self.policy.allows(.observe, uid: uid, groups: groups) == mayObserve)
        #expect(Self.policy.allows(.change, uid: uid, groups: groups) == mayChange)
    }

    @Test func `others may do nothing where so configured`() {
        var policy = Self.policy
        policy.othersMayObserve = false
        #expect(!policy.allows(.observe, uid: 1000, groups: [1000]))
        #expect(policy.allows(.observe, uid: 1000, groups: [991]))
    }

    @Test func `without a group nobody is let in by one`() {
        var policy = Self.policy
        policy.operatorGroup = nil
        #expect(!policy.allows(.change, uid: 1000, groups: [991]))
    }

    @Test func `the refusal says what would be needed`() {
        let found = refusal {
            try Self.policy.check(.change, method: "Stop", uid: 1000, groups: [1000])
        }
        #expect(
            found
                == .notPermitted(
                    needed: "user root or user 990 or group tdx", reason: "user 1000 may not call Stop"))
    }

    @Test func `refusals are logged once an interval, with the number left out`() {
        var log = RefusalLog(interval: .seconds(10), maximumUsers: 2)
        #expect(log.shouldLog(uid: 1, now: 0) == 0)
        for moment in 1...9 { #expect(log.shouldLog(uid: 1, now: Int64(moment) * 1_000_000_000) == nil) }
        #expect(log.shouldLog(uid: 2, now: 5_000_000_000) == 0)
        #expect(log.shouldLog(uid: 1, now: 10_000_000_000) == 9)
        #expect(log.shouldLog(uid: 3, now: 10_000_000_000) == nil)
        #expect(log.shouldLog(uid: 3, now: 40_000_000_000) == 0)
    }
}
