import Glibc
import SystemPackage
import Testing

@testable import LinuxSystem

/// A directory of the test's own, removed with its socket files.
private final class SocketDirectory: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/tdxd-socket-XXXXXX".utf8CString)
        path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
    }

    deinit {
        for name in files { unlink(path + "/" + name) }
        rmdir(path)
    }

    var files: [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}

private func inode(_ path: String) -> UInt64 {
    var status = stat()
    return lstat(path, &status) == 0 ? UInt64(status.st_ino) : 0
}

private func isOpen(_ number: Int32) -> Bool { fcntl(number, F_GETFD) >= 0 }

@Suite struct `Unix sockets` {
    @Test func `a listener leaves one socket file with the wanted permissions`() throws {
        let directory = SocketDirectory()
        let path = directory.path + "/s"
        let listener = try UnixSocket.listen(at: path, mode: 0o640)
        var status = stat()
        #expect(lstat(path, &status) == 0)
        #expect(status.st_mode & 0o7777 == 0o640)
        #expect(directory.files == ["s"])
        #expect(try listener.isCloseOnExec())
        let isIdle = try UnixSocket.accept(from: listener) == nil
        #expect(isIdle)
    }

    @Test func `a living listener is not replaced and a dead one is`() throws {
        let directory = SocketDirectory()
        let path = directory.path + "/s"
        do {
            let first = try UnixSocket.listen(at: path)
            let before = inode(path)
            let error = #expect(throws: LinuxError.self) { _ = try UnixSocket.listen(at: path) }
            #expect(error?.errno == .addressInUse)
            #expect(inode(path) == before)
            withExtendedLifetime(first) {}
        }
        // The file stays behind, as after a crash; nobody answers.
        #expect(directory.files == ["s"])
        // A program that another test starts at this moment has the first one's descriptor until it runs.
        let deadline = MonotonicInstant.now + .seconds(60)
        while UnixSocket.isAnswering(path), MonotonicInstant.now < deadline { usleep(5000) }
        let second = try UnixSocket.listen(at: path)
        let client = try UnixSocket.connect(to: path)
        let isAccepted = try UnixSocket.accept(from: second) != nil
        #expect(isAccepted)
        withExtendedLifetime(client) {}
    }

    @Test func `a file that is no socket is left alone`() throws {
        let directory = SocketDirectory()
        let path = directory.path + "/s"
        close(open(path, O_CREAT | O_WRONLY, 0o600))
        let error = #expect(throws: LinuxError.self) { _ = try UnixSocket.listen(at: path) }
        #expect(error?.errno == .fileExists)
        #expect(directory.files == ["s"])
    }

    @Test func `a path that does not fit is refused before anything is made`() throws {
        let directory = SocketDirectory()
        let long = directory.path + "/" + String(repeating: "x", count: UnixSocket.maximumPathLength)
        for path in [long, ""] {
            #expect(throws: LinuxError.self) { _ = try UnixSocket.listen(at: path) }
            #expect(throws: LinuxError.self) { _ = try UnixSocket.connect(to: path) }
        }
        let error = #expect(throws: LinuxError.self) { _ = try UnixSocket.connect(to: long) }
        #expect(error?.errno == .fileNameTooLong)
        #expect(directory.files == [])
    }

    @Test func `connecting tells absence from refusal`() throws {
        let directory = SocketDirectory()
        let path = directory.path + "/s"
        #expect(throws: LinuxError("connect", .noSuchFileOrDirectory, detail: path)) {
            _ = try UnixSocket.connect(to: path)
        }
        do { _ = try UnixSocket.listen(at: path) }
        #expect(throws: LinuxError("connect", .connectionRefused, detail: path)) {
            _ = try UnixSocket.connect(to: path)
        }
    }

    @Test func `only a listening stream socket is adopted`() throws {
        let directory = SocketDirectory()
        let listener = try UnixSocket.listen(at: directory.path + "/s")
        let copy = dup(listener.rawValue)
        let adopted = try UnixSocket.adoptListener(copy)
        #expect(adopted.rawValue == copy)
        #expect(try adopted.isCloseOnExec())
        let pair = try UnixSocket.pair()
        #expect(throws: LinuxError.self) { _ = try UnixSocket.adoptListener(pair.first.rawValue) }
        let file = open("/dev/null", O_RDONLY)
        defer { close(file) }
        #expect(throws: LinuxError.self) { _ = try UnixSocket.adoptListener(file) }
        #expect(isOpen(pair.first.rawValue) && isOpen(file))
    }

    @Test func `bytes and the end of the stream arrive`() throws {
        let pair = try UnixSocket.pair()
        guard case .wouldBlock = try UnixSocket.receive(upTo: 10, from: pair.second) else {
            Issue.record("something came out of nothing")
            return
        }
        #expect(try UnixSocket.send([1, 2, 3], on: pair.first) == .bytes(3))
        UnixSocket.shutdownWriting(pair.first)
        guard case .bytes(let bytes, let descriptors) = try UnixSocket.receive(upTo: 10, from: pair.second) else {
            Issue.record("no bytes")
            return
        }
        #expect(bytes == [1, 2, 3])
        #expect(descriptors.count == 0)
        guard case .endOfStream = try UnixSocket.receive(upTo: 10, from: pair.second) else {
            Issue.record("no end")
            return
        }
    }

    @Test func `a full socket would block and a lost peer is an error without a signal`() throws {
        let pair = try UnixSocket.pair()
        let block = [UInt8](repeating: 7, count: 1 << 16)
        var sent = 0
        while case .bytes(let count) = try UnixSocket.send(block[...], on: pair.first) { sent += count }
        #expect(sent > 0)
        pair.split { first, second in
            _ = consume second
            let error = #expect(throws: LinuxError.self) {
                _ = try UnixSocket.send([1], on: first)
            }
            #expect(error?.errno == .brokenPipe)
        }
    }

    @Test func `passed descriptors are new, close-on-exec, and belong to the last byte of the read`() throws {
        let pair = try UnixSocket.pair()
        let file = open("/dev/null", O_RDONLY)
        defer { close(file) }
        _ = try UnixSocket.send([1, 2], on: pair.first)
        _ = try UnixSocket.send([3, 4], descriptors: [file, file], on: pair.first)
        _ = try UnixSocket.send([5], on: pair.first)
        guard
            case .bytes(let bytes, let received) = try UnixSocket.receive(
                upTo: 100, maximumDescriptors: 2, from: pair.second)
        else {
            Issue.record("no bytes")
            return
        }
        #expect(bytes == [1, 2, 3, 4])
        #expect(received.count == 2)
        guard let descriptor = received.takeFirst() else { return }
        #expect(descriptor.rawValue != file)
        #expect(try descriptor.isCloseOnExec())
    }

    @Test(arguments: [(0, 1), (1, 2), (2, 3), (5, 8)])
    func `more descriptors than are wanted are an error and none of them stays open`(_ wanted: Int, _ sent: Int) throws
    {
        let pair = try UnixSocket.pair()
        let ends = try UnixSocket.pair()
        // The socket that is passed reports its end only when every copy of the passed one is closed.
        try ends.split { mine, passed in
            let copies = [Int32](repeating: passed.rawValue, count: sent)
            _ = try UnixSocket.send([1], descriptors: copies, on: pair.first)
            _ = consume passed
            let error = #expect(throws: LinuxError.self) {
                _ = try UnixSocket.receive(upTo: 10, maximumDescriptors: wanted, from: pair.second)
            }
            #expect(error?.errno == .messageTooLong)
            guard case .endOfStream = try UnixSocket.receive(upTo: 1, from: mine) else {
                Issue.record("a passed descriptor is still open")
                return
            }
        }
    }

    @Test func `descriptors that nobody takes are closed with their list`() throws {
        let ends = try UnixSocket.pair()
        try ends.split { mine, passed in
            do {
                let list = ReceivedDescriptors(taking: [passed.relinquish()])
                let other = ReceivedDescriptors()
                other.append(from: list)
                #expect(list.count == 0)
                #expect(other.count == 1)
                guard case .wouldBlock = try UnixSocket.receive(upTo: 1, from: mine) else {
                    Issue.record("closed too early")
                    return
                }
            }
            guard case .endOfStream = try UnixSocket.receive(upTo: 1, from: mine) else {
                Issue.record("not closed")
                return
            }
        }
    }

    @Test func `the peer's identity is the kernel's word`() throws {
        let pair = try UnixSocket.pair()
        let peer = try UnixSocket.peer(of: pair.first)
        #expect(peer.uid == getuid())
        #expect(peer.gid == getgid())
        #expect(peer.pid == getpid())
    }

    @Test func `the peer's process is held, and has its name as long as it lives`() throws {
        let pair = try UnixSocket.pair()
        let peer = try UnixSocket.peer(of: pair.first)
        #expect(peer.isPIDFDCertain == PeerCredentials.kernelHasPIDFD)
        let held = try #require(peer.pidfd)
        let text = try TextFile.read("/proc/self/fdinfo/\(held.rawValue)")
        #expect(text.contains("Pid:\t\(getpid())"), "\(text)")
        let own = try TextFile.read("/proc/self/comm")
        #expect(peer.programName.map { $0 + "\n" } == own)

        // Of one that has ended there is no name, whoever has its number now.
        let child = try ProgramStart(path: "/bin/true").start()
        #expect(try child.waitUntilEnded(milliseconds: 60_000))
        let gone = PeerCredentials(
            uid: 0, gid: 0, pid: getpid(), pidfd: RetainedDescriptor(try child.descriptor.duplicate()))
        #expect(gone.programName == nil)
        _ = try child.wait()
    }
}
