import LinuxSystem
import Testing

@testable import HostVMs

@Suite struct VMCensusTests {
    private func event(_ name: String, thread: Int32, live: UInt64) throws -> VMEvent {
        let text = "change@/devices/virtual/misc/kvm\0EVENT=\(name)\0PID=\(thread)\0CREATED=9\0COUNT=\(live)\0"
        return try #require(KernelEvent(parsing: Array(text.utf8)).flatMap { VMEvent($0) })
    }

    @Test func `An announcement is read from KVM's event, and no other event is one`() throws {
        let vm = try event("destroy", thread: 1234, live: 3)
        #expect(vm.kind == .destroyed && vm.creatorPID == 1234 && vm.createdTotal == 9 && vm.live == 3)
        let other = Array("add@/devices/x\0EVENT=create\0PID=1\0".utf8)
        #expect(VMEvent(try #require(KernelEvent(parsing: other))) == nil)
    }

    @Test func `Before the first announcement, how many VMs others have is unknown`() {
        #expect(VMCensus().others(own: [], known: 0).isUnknown)
    }

    @Test func `One announcement tells of VMs that were there before`() throws {
        var census = VMCensus()
        census.note(try event("create", thread: 5, live: 3), process: 5)
        #expect(census.others(own: [5], known: 0) == .exactly(2))
        census.note(try event("destroy", thread: 5, live: 2), process: nil)
        #expect(census.others(own: [5], known: 0) == .exactly(2))
    }

    @Test func `The caller's VMs are left out, also those that were there before`() throws {
        var census = VMCensus()
        census.note(try event("create", thread: 7, live: 3), process: 6)
        #expect(census.others(own: [6], known: 3) == .exactly(0))
        #expect(census.others(own: [], known: 0) == .exactly(3))
    }

    @Test func `After a loss the number is unknown until the next announcement`() throws {
        var census = VMCensus()
        census.note(try event("create", thread: 7, live: 1), process: 6)
        census.noteLoss()
        #expect(census.others(own: [6], known: 1).isUnknown)
        census.note(try event("create", thread: 8, live: 2), process: 6)
        #expect(
            census.others(own: [6], known: 0) == .exactly(1),
            "a VM whose creation was lost is not taken for the caller's")
    }
}

extension VMCensus.Others {
    fileprivate var isUnknown: Bool { if case .unknown = self { true } else { false } }
}
