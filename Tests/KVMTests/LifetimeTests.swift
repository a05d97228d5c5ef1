import CKVM
import Glibc
import HostVMs
import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

/// Who keeps what alive, across processes. Perl, which every Debian has, plays the other process.
@Suite(.enabled(if: Machine.hasGuestMemfd, "the machine has no guest_memfd"))
struct LifetimeTests {
    private let page: UInt64 = 4096

    /// Runs a Perl program that may use the descriptors listed; returns what it printed.
    private func perl(_ program: String, _ descriptors: [(source: Int32, target: Int32)] = []) throws -> String {
        let output = try MemoryFile(name: "output", size: .kibibytes(64)).duplicateDescriptor()
        let child = try ProgramStart(
            path: Machine.perl, arguments: ["-e", program], descriptors: descriptors + [(output.rawValue, 1)]
        ).start()
        #expect(try child.wait() == .exited(status: 0))
        return String(decoding: try output.read(count: 65536, at: .zero).prefix { $0 != 0 }, as: UTF8.self)
    }

    @Test(.enabled(if: Machine.hasPerl, "there is no Perl"))
    func `X1 another process's VM ioctls fail with EIO, its guest_memfd calls work`() throws {
        let vm = try Machine.createVM()
        let memory = try vm.createKernelGuestMemory(size: ByteCount(4 * page), flags: [])
        try memory.allocate(FileRange(0, 4 * page))
        let file = try memory.duplicateDescriptor()
        let answer = try vm.withNumber { machine in
            // fallocate is system call 285; mode 3 punches.
            try perl(
                "open(V,'+<&=',4); open(G,'+<&=',5); my $r=ioctl(V,0xAE03,66); print defined $r?'ok':$!+0, ' ',"
                    + "syscall(285,5,3,0,4096)==0?'punched':$!+0",
                [(machine, 4), (file.rawValue, 5)])
        }
        #expect(answer == "5 punched")
        try expectResident(memory, FileRange(0, 4 * page), 3 * page)
    }

    /// A process that creates a VM and shared guest memory filled with a pattern, says so and waits.
    private static let creator = """
        open(K,'+<','/dev/kvm') or exit 1; my $v=ioctl(K,0xAE01,0) or exit 2; open(V,'+<&=',$v) or exit 3;
        my $s=pack('Q8',65536,3,0,0,0,0,0,0); my $g=ioctl(V,0xC040AED4,$s) or exit 4;
        my $r=pack('LLQQQQLL Q14',0,4,0,65536,0,0,$g,0,(0)x14); defined ioctl(V,0x40A0AE49,$r) or exit 5;
        syscall(285,$g,1,0,65536)==0 or exit 6;
        syswrite(STDOUT,"$v $g\\n"); sleep 1000;
        """

    @Test(
        .enabled(
            if: Machine.hasPerl && !GuestMemoryKind.all(with: [.mmap, .initShared]).isEmpty,
            "there is no Perl, or no VM type takes INIT_SHARED"))
    func `X2 when its creator is killed, guest memory lives on in whoever holds it, and the VM object with it`() throws
    {
        let events = try? KernelEventSource()
        let output = try MemoryFile(name: "output", size: .kibibytes(4)).duplicateDescriptor()
        let creator = try ProgramStart(
            path: Machine.perl, arguments: ["-e", Self.creator], descriptors: [(output.rawValue, 1)]
        ).start()
        var said = ""
        while !said.contains("\n") {
            #expect(try creator.exitIfEnded() == nil)
            said = String(decoding: try output.read(count: 100, at: .zero).prefix { $0 != 0 }, as: UTF8.self)
            CurrentThread.sleep(milliseconds: 1)
        }
        let numbers = said.split { $0 == " " || $0 == "\n" }.compactMap { Int32($0) }
        let machine = try creator.duplicateDescriptor(numbers[0])
        let memory = try KernelGuestMemory(taking: try creator.duplicateDescriptor(numbers[1]))
        #expect(memory.size == .kibibytes(64))
        let mapping = try memory.map(FileRange(0, 65536))
        mapping.fill(0xC3)

        try creator.send(.kill)
        #expect(try creator.wait() == .killed(by: .kill, coreDumped: false))

        #expect(mapping.holds(0xC3))
        // The VM answers nobody any more.
        #expect(tdxd_ioctl_value(machine.rawValue, 0xAE03, 66) == -EIO)
        try memory.punchHole(FileRange(0, page))
        try expectResident(memory, FileRange(0, 65536), 65536 - page)
        #expect(mapping.holds(0, 0, page) && mapping.holds(0xC3, page))
        // The file belongs to its dead VM and to no other.
        let other = try Machine.createVM()
        expectRefusal(.invalidArgument) {
            try other.setMemorySlot(
                MemorySlot(
                    id: 0, range: GuestPhysicalRange(0, 65536), userspaceAddress: 0, guestMemory: memory))
        }
        // The VM object goes with the last reference: its own descriptor, then the file, then the mapping.
        if let events {
            _ = consume machine
            memory.close()
            #expect(try destroyed(creator.pid, events, wait: false) == false)
            mapping.unmap()
            #expect(try destroyed(creator.pid, events, wait: true))
        }
    }

    /// Whether KVM told of the end of a VM that the process created.
    private func destroyed(_ pid: Int32, _ events: borrowing KernelEventSource, wait: Bool) throws -> Bool {
        repeat {
            while let event = try events.next() {
                if let vm = VMEvent(event), vm.kind == .destroyed, vm.creatorPID == pid { return true }
            }
        } while try wait && events.wait(milliseconds: 60_000)
        return false
    }

    @Test(arguments: GuestMemoryKind.all)
    func `X3 an interrupted allocation keeps its prefix, and the library goes on to the end`(kind: GuestMemoryKind)
        throws
    {
        let size: UInt64 = Machine.isSlow ? 64 << 20 : 128 << 20
        let (_, memory) = try kind.create(ByteCount(size))
        let file = try memory.duplicateDescriptor()
        var interrupted = false
        // The signal comes at a time of its own; allocating takes many times longer than the first of them.
        for _ in 0..<100 where !interrupted {
            let alarm = try ThreadAlarm(milliseconds: 1)
            interrupted = FileMemory.allocateOnce(descriptor: file.rawValue, length: ByteCount(size)) == .interrupted
            if !interrupted { try memory.punchHole(FileRange(0, size)) }
            _ = alarm.hasPassed
        }
        #expect(interrupted)
        if Machine.hasCachestat {
            #expect(try memory.residentBytes(FileRange(0, size)) < ByteCount(size))
        }
        let alarm = try ThreadAlarm(milliseconds: 1)
        try memory.allocate(FileRange(0, size))
        _ = alarm.hasPassed
        try expectResident(memory, FileRange(0, size), size)
    }

    @Test func `X4 the kernel hands out guest_memfds that children inherit; the library's are closed in them`() throws {
        let vm = try Machine.createVM()
        let raw = OwnedDescriptor(taking: try vm.createRawGuestMemory(size: page, flags: 0))
        #expect(try !raw.isCloseOnExec())
        let memory = try vm.createKernelGuestMemory(size: ByteCount(page), flags: [])
        #expect(try memory.duplicateDescriptor().isCloseOnExec())
        try memory.use("test") { number throws(KVMError) in
            #expect(fcntl(number, F_GETFD) & FD_CLOEXEC != 0)
        }
    }

    @Test func `X5 a slot whose file was closed can still be deleted`() throws {
        let vm = try Machine.createVM()
        let memory = try vm.createKernelGuestMemory(size: ByteCount(page), flags: [])
        try vm.setMemorySlot(
            MemorySlot(id: 0, range: GuestPhysicalRange(0, page), userspaceAddress: 0, guestMemory: memory))
        memory.close()
        try vm.deleteMemorySlot(0)
    }

    @Test func `C12 on a default VM: a file can be punched and filled after its VM's descriptor is closed`() throws {
        let vm = try Machine.createVM()
        let memory = try vm.createKernelGuestMemory(size: ByteCount(16 * page), flags: [])
        vm.close()
        try memory.allocate(FileRange(0, 16 * page))
        try memory.punchHole(FileRange(0, 16 * page))
        try expectResident(memory, FileRange(0, 16 * page), 0)
        try memory.allocate(FileRange(0, 16 * page))
        try expectResident(memory, FileRange(0, 16 * page), 16 * page)
    }

    @Test func `a holder of guest memory is found in /proc by its inode, as descriptor and as mapping`() throws {
        let kind = try #require(GuestMemoryKind.all.last)
        let (_, memory) = try kind.create(ByteCount(page))
        let mapping = kind.flags.contains(.mmap) ? try memory.map(FileRange(0, page)) : nil
        let look = try InodeHolders.find([memory.identity])
        let mine = look.holders.filter { $0.pid == CurrentProcess.pid }
        #expect(mine.contains { if case .descriptor = $0.means { true } else { false } })
        #expect(mine.contains { $0.means == .mappings(count: 1) } == (mapping != nil))
        mapping?.unmap()
        memory.close()
        #expect(try InodeHolders.find([memory.identity]).holders.isEmpty)
    }
}
