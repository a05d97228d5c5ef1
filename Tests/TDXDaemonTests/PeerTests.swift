import ControlInterface
import ServiceSupport
import Testing
import Varlink

@testable import TDXDaemon

@Suite struct PeerTests {
    static let policy = PeerPolicy(
        ownUID: 990,
        admins: .init(users: [.init(name: "alice", number: 1100)], group: .init(name: "tdx", number: 991)),
        operators: .init(users: [.init(name: "1101", number: 1101)], group: .init(name: "ops", number: 992)),
        observers: .init(users: [.init(name: "carol", number: nil)], group: .init(name: "watch", number: 993)),
        othersMayObserve: true)

    @Test func `root, the daemon's user and the groups have their roles, others may look`() {
        func role(_ uid: UInt32, _ groups: UInt32...) -> Role { Self.policy.role(uid: uid, groups: groups) }
        #expect(role(0, 0) == .admin && role(990, 990) == .admin && role(1000, 1000, 991) == .admin)
        #expect(role(1000, 1000, 992) == .operate && role(1000, 991, 992) == .admin)
        #expect(role(1000, 1000) == .observe)
        var closed = Self.policy
        closed.othersMayObserve = false
        #expect(closed.role(uid: 1000, groups: [1000]) == .none)
        #expect(closed.role(uid: 1000, groups: [992]) == .operate)
    }

    @Test func `a group that this host does not know lets nobody in`() {
        var policy = Self.policy
        policy.admins.group?.number = nil
        policy.operators = .init()
        #expect(policy.role(uid: 1000, groups: [991, 992]) == .observe)
        #expect(policy.unknownNames == ["group tdx", "user carol"])
    }

    @Test func `users have the role that names them, and those who may look may do so where others may not`() {
        var policy = Self.policy
        policy.othersMayObserve = false
        #expect(policy.role(uid: 1100, groups: [1100]) == .admin)
        #expect(policy.role(uid: 1101, groups: [1101]) == .operate)
        // By whichever rule gives more.
        #expect(policy.role(uid: 1101, groups: [991]) == .admin)
        #expect(policy.role(uid: 1102, groups: [993]) == .observe)
        #expect(policy.role(uid: 1102, groups: [1102]) == .none)
    }

    @Test func `the configuration's names get this host's numbers`() {
        var access = TDXDConfiguration().access
        access.adminUsers = ["daemon", "4242", "no-such-user"]
        access.operateGroup = "daemon"
        access.adminGroup = nil
        let policy = PeerPolicy(access, ownUID: 990)
        // Debian's user and group daemon have number 1.
        #expect(policy.role(uid: 1, groups: [5]) == .admin && policy.role(uid: 4242, groups: []) == .admin)
        #expect(policy.role(uid: 5, groups: [1]) == .operate)
        #expect(policy.unknownNames == ["user no-such-user"])
    }

    @Test func `every method takes a role`() {
        #expect(ManagerInterface.Method.allCases.allSatisfy { $0.row.role > .none })
    }

    @Test func `each role may call what is its own and below, and nothing above`() {
        let callers: [(role: Role, uid: UInt32, groups: [UInt32])] = [
            (.observe, 1000, [1000]), (.operate, 1000, [992]), (.admin, 1000, [991]), (.admin, 0, [0]),
        ]
        for method in ManagerInterface.Method.allCases {
            let needed = method.row.role
            for caller in callers {
                let isRefused =
                    refusal {
                        _ = try Self.policy.check(
                            method.rawValue, needs: needed, uid: caller.uid, groups: caller.groups)
                    } != nil
                #expect(isRefused == (caller.role < needed), "\(method) by \(caller)")
            }
        }
    }

    @Test func `an operator touches only TDs of its own`() throws {
        let mine = Sample.record("web1")
        #expect(mine.ownerUID == 1000)
        try Principal.owner(1000).check(mine, "stop")
        try Principal.admin.check(mine, "stop")
        guard case .notPermitted = refusal({ try Principal.owner(1001).check(mine, "stop") }) else {
            Issue.record("user 1001 stops the TD of user 1000")
            return
        }
        #expect(try Self.policy.check("Stop", needs: .operate, uid: 1001, groups: [992]).principal == .owner(1001))
        #expect(try Self.policy.check("Stop", needs: .operate, uid: 1001, groups: [991]).principal == .admin)
    }

    @Test func `the refusal says what would be needed`() {
        #expect(
            refusal { _ = try Self.policy.check("Stop", needs: .operate, uid: 1000, groups: [1000]) }
                == .notPermitted(
                    needed: "user root or user 990 or user alice or group tdx or user 1101 or group ops",
                    reason: "user 1000 may not call Stop"))
        #expect(
            refusal { _ = try Self.policy.check("Drain", needs: .admin, uid: 1000, groups: [992]) }
                == .notPermitted(
                    needed: "user root or user 990 or user alice or group tdx", reason: "user 1000 may not call Drain"))
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
