// SPDX-License-Identifier: EUPL-1.2
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {Head, StekkerAnchor} from "../StekkerAnchor.sol";
import {Log, vm} from "./Vm.sol";

/// Each row of the table of anchoring §2: by example, and by random calls.
contract StekkerAnchorTest {
    address private constant OWNER = address(0xA1);
    address private constant STRANGER = address(0xB2);
    bytes32 private constant LOG = keccak256("log");
    bytes32 private constant OTHER = keccak256("other log");

    StekkerAnchor private its;

    function setUp() public {
        its = new StekkerAnchor(2 days, address(this));
        its.register(LOG, OWNER);
    }

    function root(uint256 n) private pure returns (bytes32) {
        return keccak256(abi.encode("root", n));
    }

    function anchorAs(address caller, uint64 size, bytes32 newRoot, bytes32 previous) private {
        vm.prank(caller);
        its.anchor(LOG, size, newRoot, previous);
    }

    function expectHead(Head memory a, uint64 size, uint64 count, bytes32 newRoot, bool closed) private pure {
        require(a.size == size && a.count == count && a.root == newRoot && a.closed == closed, "another head");
        require(a.owner == OWNER, "another owner");
    }

    /// A refused call: reverts with exactly this, leaves the head, emits nothing.
    function refused(address caller, bytes memory call, bytes memory with) private {
        Head memory before = its.head(LOG);
        vm.recordLogs();
        vm.prank(caller);
        (bool done, bytes memory said) = address(its).call(call);
        require(!done && keccak256(said) == keccak256(with), "not refused as it should be");
        require(vm.getRecordedLogs().length == 0, "a refused call emitted something");
        require(keccak256(abi.encode(its.head(LOG))) == keccak256(abi.encode(before)), "a refused call wrote");
    }

    function anchorCall(uint64 size, bytes32 newRoot, bytes32 previous) private pure returns (bytes memory) {
        return abi.encodeCall(StekkerAnchor.anchor, (LOG, size, newRoot, previous));
    }

    function missing(address account, bytes32 role) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, account, role);
    }

    function test_the_first_anchor_follows_nothing() public {
        vm.roll(77);
        vm.expectEmit(true, true, true, true, address(its));
        emit StekkerAnchor.Anchored(LOG, 5, root(5), bytes32(0));
        anchorAs(OWNER, 5, root(5), bytes32(0));
        expectHead(its.head(LOG), 5, 1, root(5), false);
        require(its.head(LOG).blockNumber == 77, "another block");
    }

    function test_each_anchor_follows_the_one_before() public {
        anchorAs(OWNER, 5, root(5), bytes32(0));
        refused(OWNER, anchorCall(9, root(9), bytes32(0)), abi.encodeWithSelector(StekkerAnchor.WrongPrevious.selector, root(5), bytes32(0)));
        anchorAs(OWNER, 9, root(9), root(5));
        expectHead(its.head(LOG), 9, 2, root(9), false);
    }

    function test_a_size_stands_once_whatever_the_root() public {
        anchorAs(OWNER, 5, root(5), bytes32(0));
        bytes memory notMonotone = abi.encodeWithSelector(StekkerAnchor.NotMonotone.selector, uint64(5), uint64(5));
        refused(OWNER, anchorCall(5, root(5), bytes32(0)), notMonotone);
        refused(OWNER, anchorCall(5, root(6), root(5)), notMonotone);
        refused(OWNER, anchorCall(4, root(4), root(5)), abi.encodeWithSelector(StekkerAnchor.NotMonotone.selector, uint64(5), uint64(4)));
        refused(OWNER, anchorCall(0, root(0), root(5)), abi.encodeWithSelector(StekkerAnchor.NotMonotone.selector, uint64(5), uint64(0)));
    }

    function test_an_empty_root_is_refused() public {
        refused(OWNER, anchorCall(1, bytes32(0), bytes32(0)), abi.encodeWithSelector(StekkerAnchor.EmptyRoot.selector));
    }

    function test_a_step_has_an_end() public {
        uint64 most = its.MAX_STEP();
        refused(OWNER, anchorCall(most + 1, root(1), bytes32(0)), abi.encodeWithSelector(StekkerAnchor.TooFar.selector, uint64(0), most + 1));
        refused(OWNER, anchorCall(type(uint64).max, root(1), bytes32(0)), abi.encodeWithSelector(StekkerAnchor.TooFar.selector, uint64(0), type(uint64).max));
        anchorAs(OWNER, most, root(1), bytes32(0));
        anchorAs(OWNER, 2 * most, root(2), root(1));
    }

    function test_only_the_owner_anchors_and_closes() public {
        bytes memory notOwner = abi.encodeWithSelector(StekkerAnchor.NotOwner.selector);
        refused(STRANGER, anchorCall(1, root(1), bytes32(0)), notOwner);
        refused(address(this), anchorCall(1, root(1), bytes32(0)), notOwner); // the admin is not the owner
        refused(STRANGER, abi.encodeCall(StekkerAnchor.close, (LOG)), notOwner);
        refused(OWNER, abi.encodeCall(StekkerAnchor.anchor, (OTHER, 1, root(1), bytes32(0))), notOwner);
        refused(STRANGER, abi.encodeCall(StekkerAnchor.close, (OTHER)), notOwner);
    }

    function test_a_log_is_registered_once_by_a_registrar() public {
        refused(STRANGER, abi.encodeCall(StekkerAnchor.register, (OTHER, STRANGER)), missing(STRANGER, its.REGISTRAR()));
        refused(address(this), abi.encodeCall(StekkerAnchor.register, (LOG, STRANGER)), abi.encodeWithSelector(StekkerAnchor.AlreadyRegistered.selector));
        refused(address(this), abi.encodeCall(StekkerAnchor.register, (OTHER, address(0))), abi.encodeWithSelector(StekkerAnchor.NotOwner.selector));
        vm.expectEmit(true, true, false, true, address(its));
        emit StekkerAnchor.Registered(OTHER, STRANGER);
        its.register(OTHER, STRANGER);
        require(its.head(OTHER).owner == STRANGER, "another owner");
    }

    function test_a_closed_log_stays_closed() public {
        anchorAs(OWNER, 5, root(5), bytes32(0));
        vm.expectEmit(true, false, false, true, address(its));
        emit StekkerAnchor.Closed(LOG, 5, root(5));
        vm.prank(OWNER);
        its.close(LOG);
        expectHead(its.head(LOG), 5, 1, root(5), true);
        bytes memory closed = abi.encodeWithSelector(StekkerAnchor.LogClosed.selector);
        refused(OWNER, anchorCall(6, root(6), root(5)), closed);
        refused(OWNER, abi.encodeCall(StekkerAnchor.close, (LOG)), closed);
        refused(address(this), abi.encodeCall(StekkerAnchor.register, (LOG, OWNER)), abi.encodeWithSelector(StekkerAnchor.AlreadyRegistered.selector));
    }

    function test_a_pause_stops_anchors_and_changes_no_head() public {
        anchorAs(OWNER, 5, root(5), bytes32(0));
        refused(OWNER, abi.encodeCall(StekkerAnchor.pause, ()), missing(OWNER, its.PAUSER()));
        its.grantRole(its.PAUSER(), STRANGER);
        vm.prank(STRANGER);
        its.pause();
        refused(OWNER, anchorCall(6, root(6), root(5)), abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        refused(STRANGER, abi.encodeCall(StekkerAnchor.unpause, ()), missing(STRANGER, its.DEFAULT_ADMIN_ROLE()));
        expectHead(its.head(LOG), 5, 1, root(5), false);
        its.unpause();
        anchorAs(OWNER, 6, root(6), root(5));
    }

    function test_it_takes_no_value() public {
        refusedValue(anchorCall(1, root(1), bytes32(0)));
        refusedValue(abi.encodeCall(StekkerAnchor.close, (LOG)));
        refusedValue("");
    }

    function refusedValue(bytes memory call) private {
        (bool done,) = address(its).call{value: 1}(call);
        require(!done && address(its).balance == 0, "it took value");
    }

    function testFuzz_an_anchor_is_taken_exactly_when_it_follows(uint64 have, uint64 size, bytes32 newRoot, bytes32 previous, bool fits)
        public
    {
        have = uint64(have % its.MAX_STEP()) + 1;
        size = uint64(size % (3 * uint256(its.MAX_STEP())));
        if (fits) previous = root(have);
        anchorAs(OWNER, have, root(have), bytes32(0));
        bool should = newRoot != bytes32(0) && size > have && size - have <= its.MAX_STEP() && previous == root(have);
        vm.prank(OWNER);
        (bool done,) = address(its).call(anchorCall(size, newRoot, previous));
        require(done == should, "taken and should not be, or the other way");
        expectHead(its.head(LOG), should ? size : have, should ? 2 : 1, should ? newRoot : root(have), false);
    }

    function testFuzz_nobody_else_can_do_anything(address caller, uint64 size, bytes32 newRoot) public {
        vm.assume(caller != OWNER && caller != address(this));
        Head memory before = its.head(LOG);
        bytes[6] memory calls = [
            anchorCall(size, newRoot, bytes32(0)),
            abi.encodeCall(StekkerAnchor.close, (LOG)),
            abi.encodeCall(StekkerAnchor.register, (LOG, caller)),
            abi.encodeCall(StekkerAnchor.register, (OTHER, caller)),
            abi.encodeCall(StekkerAnchor.pause, ()),
            abi.encodeCall(StekkerAnchor.unpause, ())
        ];
        for (uint256 n = 0; n < calls.length; n++) {
            vm.prank(caller);
            (bool done,) = address(its).call(calls[n]);
            require(!done, "a stranger was let in");
        }
        require(keccak256(abi.encode(its.head(LOG))) == keccak256(abi.encode(before)), "a stranger wrote");
        require(its.head(OTHER).owner == address(0), "a stranger registered");
    }
}

/// Calls everything in random order as several people, and remembers what was anchored.
contract Anchorers {
    StekkerAnchor public immutable its;
    bytes32[2] public logs = [keccak256("a"), keccak256("b")];
    address[3] public people = [address(0xA1), address(0xB2), address(0xC3)];

    mapping(bytes32 logId => mapping(uint64 size => bytes32)) public rootAt;
    mapping(bytes32 logId => uint64) public lastSize;
    mapping(bytes32 logId => uint64) public anchors;
    mapping(bytes32 logId => bytes32) public lastRoot;
    mapping(bytes32 logId => bool) public isClosed;
    uint256 public broken;

    constructor(StekkerAnchor made) {
        its = made;
    }

    function anchor(uint256 log, uint256 who, uint64 step, uint8 rootSeed, bool follows) external {
        bytes32 logId = logs[log % 2];
        Head memory before = its.head(logId);
        uint64 size = before.size + uint64(step % 5); // 0 repeats the size
        bytes32 newRoot = keccak256(abi.encode(rootSeed));
        bytes32 previous = follows ? before.root : keccak256("something else");
        vm.prank(people[who % 3]);
        try its.anchor(logId, size, newRoot, previous) {
            bool lawful = people[who % 3] == before.owner && !before.closed && !its.paused() && size > before.size && previous == before.root
                && rootAt[logId][size] == bytes32(0);
            if (!lawful) broken++;
            rootAt[logId][size] = newRoot;
            lastSize[logId] = size;
            lastRoot[logId] = newRoot;
            anchors[logId]++;
        } catch {}
    }

    function close(uint256 log, uint256 who, uint8 luck) external {
        if (luck > 8) return; // rarely, or nothing is left to anchor
        bytes32 logId = logs[log % 2];
        vm.prank(people[who % 3]);
        try its.close(logId) {
            if (people[who % 3] != its.head(logId).owner || isClosed[logId]) broken++;
            isClosed[logId] = true;
        } catch {}
    }

    function register(uint256 log, uint256 who, uint256 owner) external {
        vm.prank(people[who % 3]);
        try its.register(logs[log % 2], people[owner % 3]) {
            broken++; // both were registered before
        } catch {}
    }

    function pause(uint256 who, bool on) external {
        vm.prank(people[who % 3]);
        if (on) try its.pause() {} catch {}
        else try its.unpause() {} catch {}
    }
}

contract StekkerAnchorInvariants {
    StekkerAnchor private its;
    Anchorers private people;

    function setUp() public {
        its = new StekkerAnchor(2 days, address(0xC3));
        people = new Anchorers(its);
        for (uint256 n = 0; n < 2; n++) {
            (bytes32 logId, address owner) = (people.logs(n), people.people(n));
            vm.prank(address(0xC3));
            its.register(logId, owner);
        }
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(people);
    }

    function invariant_the_head_is_what_was_anchored_last() public view {
        require(people.broken() == 0, "something was taken that should not be");
        for (uint256 n = 0; n < 2; n++) {
            bytes32 logId = people.logs(n);
            Head memory a = its.head(logId);
            require(a.size == people.lastSize(logId) && a.root == people.lastRoot(logId), "another head than the last anchor");
            require(a.count == people.anchors(logId), "another count than the anchors");
            require(a.owner == people.people(n), "another owner");
            require(a.closed == people.isClosed(logId), "opened again");
        }
    }
}
