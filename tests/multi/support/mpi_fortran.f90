! Collectives from Fortran, by the module mpi (old bindings) and by mpi_f08: blocking, nonblocking, in place. Prints on rank 0
! what every rank can see to be right; a wrong result ends it.
module with_f08
contains
  subroutine new_bindings(sums)
    use mpi_f08
    integer, intent(out) :: sums
    integer :: rank, ranks
    type(MPI_Request) :: request
    type(MPI_Comm) :: comm
    real(8) :: x(3)
    call MPI_Comm_dup(MPI_COMM_WORLD, comm)
    call MPI_Comm_rank(comm, rank)
    call MPI_Comm_size(comm, ranks)
    x = rank
    call MPI_Allreduce(MPI_IN_PLACE, x, 3, MPI_DOUBLE_PRECISION, MPI_SUM, comm)
    if (any(x /= ranks * (ranks - 1) / 2)) stop 3
    call MPI_Ibcast(x, 3, MPI_DOUBLE_PRECISION, ranks - 1, comm, request)
    call MPI_Wait(request, MPI_STATUS_IGNORE)
    call MPI_Barrier(comm)
    call MPI_Comm_free(comm)
    sums = int(sum(x))
  end subroutine
end module

program fortran
  use mpi
  use with_f08, only: new_bindings
  implicit none
  integer :: error, rank, ranks, total, i, request, sums
  integer :: counts(16), places(16), gathered(200), mine(16)
  logical :: flag, all
  complex(8) :: z, zsum
  call MPI_Init(error)
  call MPI_Comm_rank(MPI_COMM_WORLD, rank, error)
  call MPI_Comm_size(MPI_COMM_WORLD, ranks, error)

  total = rank + 1
  call MPI_Allreduce(MPI_IN_PLACE, total, 1, MPI_INTEGER, MPI_SUM, MPI_COMM_WORLD, error)
  if (error /= MPI_SUCCESS .or. total /= ranks * (ranks + 1) / 2) stop 1
  flag = rank /= 1
  call MPI_Allreduce(flag, all, 1, MPI_LOGICAL, MPI_LAND, MPI_COMM_WORLD, error)
  if (all) stop 1
  z = cmplx(rank, 1, 8)
  call MPI_Reduce(z, zsum, 1, MPI_DOUBLE_COMPLEX, MPI_SUM, 0, MPI_COMM_WORLD, error)
  if (rank == 0 .and. aimag(zsum) /= ranks) stop 1

  do i = 1, ranks
    counts(i) = i
    places(i) = 3 * i
  end do
  mine = rank
  gathered = -1
  call MPI_Allgatherv(mine, rank + 1, MPI_INTEGER, gathered, counts, places, MPI_INTEGER, MPI_COMM_WORLD, error)
  if (gathered(3 * ranks + 1) /= ranks - 1 .or. gathered(3 * ranks + 1 + ranks) /= -1) stop 2
  call MPI_Ialltoall(gathered(4), 1, MPI_INTEGER, mine, 1, MPI_INTEGER, MPI_COMM_WORLD, request, error)
  call MPI_Wait(request, MPI_STATUS_IGNORE, error)
  if (error /= MPI_SUCCESS) stop 2

  call new_bindings(sums)
  if (rank == 0) print *, 'total', total, 'complex', zsum, 'gathered', sum(gathered), 'sums', sums, 'mine', mine(1:ranks)
  call MPI_Finalize(error)
end program
