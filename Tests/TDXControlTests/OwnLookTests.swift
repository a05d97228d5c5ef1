import ControlInterface
import HostVMs
import LinuxSystem
import Testing

@testable import TDXControl

@Suite struct OwnLookTests {
    typealias Reply = ManagerInterface.CheckKexec.Reply

    static func reply(_ result: CheckResult) -> Reply {
        Reply(
            backend: .memfd,
            checks: [HostCheck(name: "other_vms", title: "Other VMs", result: result, evidence: "not seen")],
            answers: [])
    }

    @Test func `root's tdxctl makes an open answer safe when it sees every process and no guest_memfd`() {
        var reply = Self.reply(.skip)
        reply.lookAtOtherVMs(isRoot: true) { HostVMs(processesSeen: 80) }
        #expect(reply.safe)
        #expect(
            reply.checks[0].evidence
                == "none of 80 processes holds a guest_memfd (tdxctl looked through /proc itself)")
    }

    @Test func `what it finds makes the answer unsafe`() {
        var reply = Self.reply(.skip)
        let file = VMProcess.GuestFile(identity: FileIdentity(device: 1, inode: 2), bytes: 1 << 30)
        let process = VMProcess(pid: 7, startTicks: 1, program: "qemu", files: [file])
        reply.lookAtOtherVMs(isRoot: true) { HostVMs(processes: [process]) }
        #expect(!reply.safe)
        #expect(!reply.isUnknown)
        #expect(reply.checks[0].evidence.contains("qemu (pid 7): guest_memfds of 1 GiB"))
    }

    @Test func `a look that is not complete, or another user's, leaves the answer open`() {
        var reply = Self.reply(.skip)
        reply.lookAtOtherVMs(isRoot: true) { HostVMs(unseen: [.init(pid: 1, program: nil)]) }
        reply.lookAtOtherVMs(isRoot: true) { nil }
        reply.lookAtOtherVMs(isRoot: false) { HostVMs(processesSeen: 80) }
        #expect(reply.isUnknown)
    }

    @Test func `an answer that is not open is left as it is`() {
        for result in [CheckResult.pass, .fail] {
            var reply = Self.reply(result)
            let before = reply
            reply.lookAtOtherVMs(isRoot: true) { HostVMs() }
            #expect(reply == before)
        }
    }
}
