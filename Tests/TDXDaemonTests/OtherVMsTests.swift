import ControlInterface
import HostVMs
import LinuxSystem
import Testing

@testable import TDXDaemon

@Suite struct OtherVMsTests {
    static let qemu = VMProcess(
        pid: 123, startTicks: 1, program: "qemu", name: "web1", vmDescriptors: 1,
        files: [.init(identity: FileIdentity(device: 1, inode: 2), bytes: 256 << 20)])
    static let plain = VMProcess(pid: 124, startTicks: 1, program: "qemu", vmDescriptors: 1)
    static let unseen = [HostVMs.Unseen(pid: 9, program: "bash")]

    static func verdict(
        _ processes: [VMProcess] = [], unseen: [HostVMs.Unseen] = [], hidden: Bool = false,
        census: VMCensus.Others = .unknown("KVM has announced no VM"), keyIDs: UInt64? = nil
    ) -> OtherVMs.Verdict {
        let look = HostVMs(processes: processes, processesSeen: 80, unseen: unseen, othersAreHidden: hidden)
        return OtherVMs(look: look, census: census, othersKeyIDs: keyIDs).verdict
    }

    @Test func `another program's guest_memfd is named with its program, its process and its size`() {
        #expect(Self.verdict([Self.qemu]) == .some(["qemu (pid 123, web1): guest_memfds of 256 MiB"]))
    }

    @Test func `a guest_memfd that was seen counts however the other sources count`() {
        #expect(Self.verdict([Self.qemu], census: .exactly(0), keyIDs: 0) == .some([Self.qemu.words]))
    }

    @Test func `a complete look that finds plain VMs alone finds none with private memory`() {
        guard case .none = Self.verdict([Self.plain], census: .exactly(1)) else { return #expect(Bool(false)) }
    }

    @Test(arguments: [
        (VMCensus.Others.exactly(1), false), (.unknown("lost"), false), (.exactly(0), true),
    ])
    func `what could not be looked into is unknown unless KVM counts no other VM`(
        census: VMCensus.Others, isNone: Bool
    ) {
        let verdict = Self.verdict(unseen: Self.unseen, census: census)
        switch verdict {
        case .none: #expect(isNone)
        case .unknown: #expect(!isNone)
        case .some: #expect(Bool(false))
        }
    }

    @Test func `where /proc hides processes, a look that saw none proves nothing`() {
        guard case .unknown = Self.verdict(hidden: true, census: .exactly(2)) else { return #expect(Bool(false)) }
    }

    @Test func `with TDX the kernel's charge of key ids decides without any right`() {
        guard case .none = Self.verdict(unseen: Self.unseen, census: .exactly(3), keyIDs: 0) else {
            return #expect(Bool(false))
        }
        #expect(
            Self.verdict(unseen: Self.unseen, census: .exactly(3), keyIDs: 2)
                == .some(["2 TDs of other programs, by the key ids charged to them"]))
    }

    @Test func `an unknown answer is not safe, and is told from one that fails`() {
        let look = HostVMs(processesSeen: 3, unseen: Self.unseen)
        let others = OtherVMs(look: look, census: .exactly(1), othersKeyIDs: nil)
        let verdict = KexecVerdictTests.verdict(KexecVerdictTests.inventory(nil), others: others)
        let reply = ManagerInterface.CheckKexec.Reply(backend: .memfd, checks: verdict.checks, answers: [])
        #expect(!reply.safe)
        #expect(reply.isUnknown)
        #expect(verdict.answers.first { $0.name == "refuse_while_tds_run" }?.allows == false)
    }
}
